"""The proof of the method: tokenizers trained alike, compared on clips that none of them has seen.

clip_sets        clips of a frame cache, with labels
corpora          the motion corpus and natural video, split into training and held-out parts
motion_network   a classifier of motions: its features, its accuracy
motion_training  its training, once per recipe
probe            what a linear reader knows from tokens alone
evaluation       all measures of one trained tokenizer
runs             one row, one seed: trained, measured, written
comparison       all of them, in parallel, resumable
tables           means and spreads as Markdown tables
pictures         originals and reconstructions side by side
one_thread       how all of it is computed
"""
