"""Fitting the tokenizer with Ray Train.

The trainer, which knows no engine:

trainer           one model, its losses and optimisers, phase by phase
trainer_config    its settings: phases, optimisers, precision, moving average, discriminator
phases            image → video → adversarial, and the learning rate within each
objective         the losses of the tokenizer
adversary         the discriminator's side
optimizer, ema, precision, usage
parallel          DDP, FSDP and the collectives that training needs
model_state       weights, moments and averages as whole tensors; seeds: many seeds from one

The clips, from a cache of decoded frames or straight from videos:

data_config, augmentation, frame_recipe, whole_frames
frame_cache       frames on disk, with its writer and its builder
clip_sampler      which clips a step sees
clip_source       endless batches of one worker; clip_stream is the way through Ray Data
evaluation_clips  held-out clips
prepared_data     from settings to clips

The run, under Ray Train:

config            the run's settings; run_recipe: those that decide its result
fit               the driver's part: data, workers, result
ray_run           what any run of Ray Train needs, the generator's too
loop              what every worker runs
evaluation        how good the tokenizer is on held-out clips
state             what a checkpoint holds, without pickle
run_log, curves   its numbers, TensorBoard, and a picture of them
"""
