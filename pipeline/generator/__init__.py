"""A generator of video tokens: a causal transformer of Hugging Face, trained under Ray Train.

model      sizes, guidance, saving and loading, the loss
config     settings of a run; training_config: those of its trainer and data
data       sequences from a token dataset; entropy without a model
trainer    steps, without an engine
loop, fit  the workers' and the driver's part of a run; state: its checkpoints
sampling   legal sequences from the library's sampler
evaluation losses of held-out clips, samples, and a comparison with real clips while it learns
comparison the seam for Fréchet video distances, with one on a motion network
samples    decoded samples: videos, a picture, a token dataset
generate   what jobs/generate.py runs
"""
