"""The proof of the method: tokenizers trained alike, compared on clips that none of them has seen.

clip_sets          clips of a frame cache, with labels
spreading          some of many, in no step with what repeats
corpora            the motion corpus and natural video, split into training and held-out parts
motion_network     a classifier of motions: its features, its accuracy
motion_training    its training, once per recipe
probe              what a linear reader knows from tokens alone
evaluation         measures of reconstructions, per clip and as means
token_measures     measures of tokenizers: use of their codebooks, probes, costs
anchors            what still pictures, coarse pixels and the originals score
rows               what is compared
run_spec           what decides a run's weights, and what its measures
run_training       its training, once per recipe
run_files          what it leaves on disk
runs               one row, one seed: trained, measured, written
differences        rows against the method, with intervals
comparison_config  the settings
comparison         all of it, in parallel, resumable
columns, tables    means, spreads and intervals as Markdown tables
pictures           originals and reconstructions side by side
one_thread         how all of it is computed
"""
