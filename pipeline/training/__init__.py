"""Fitting the tokenizer with Ray Train.

config        the run's settings
clip_stream   training clips from videos, through Ray Data
state         what a checkpoint holds, without pickle
loop          what every worker runs
fit           the driver's part: data, trainer, result
"""
