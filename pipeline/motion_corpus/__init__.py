"""A labelled corpus of human motion, rendered here: as many clips as wanted, captions included.

motions   the 15 recorded motions, interpolated at any time
captions  what a clip is called: adjectives, noun, verb, adverb
plans     what each clip shows, decided by the seed alone
renderer  one clip's frames
corpus    all clips as mp4 files with their labels, in parallel, resumable

Needs the extra `motion` (pybullet: the figure, its motions and a software renderer). The rendered
clips are made where they are needed and are never part of the repository.
"""
