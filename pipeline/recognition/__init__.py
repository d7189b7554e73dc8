"""Few-shot recognition: which class a video belongs to, told from its words and a few examples.

config          the settings of `jobs/recognize.py`
videos          labelled videos of a token dataset, and how common each word is in it
words           which of a video's words say most: tf-idf
episodes        N classes, K examples of each, some questions; a pure function of the seed
readers         who answers: the interface, and the readers by configuration
nearest_class   readers without a language model: bags of words, code vectors
prompts         examples and question as text, and an answer read back
local_model     a causal language model of `transformers`: the label that it holds likeliest
endpoint        a language model behind an OpenAI-compatible address
answers         answers on disk, a few episodes at a time; a stopped run goes on
accuracy        means with intervals, and what they show
tables          the same for people
recognize       all of it
"""
