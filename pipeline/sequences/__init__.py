"""Token sequences for models that generate or understand video.

vocabulary     one range of ids for both codebooks, classes and marks; flat sequences of clips
interleaved    text and video in the vocabulary of a Hugging Face language model
"""

from pipeline.sequences.vocabulary import SequenceError, SequenceVocabulary

__all__ = ["SequenceError", "SequenceVocabulary"]
