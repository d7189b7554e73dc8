"""What the pipeline costs beside what decoding and encoding cost (jobs/bench_pipeline.py).

`config` what is measured, `process_tree` processor time and memory of all processes of a side,
`gpu_sampler` how busy GPUs were meanwhile, `clocks` when the stages worked, `variants` the stages
with clocks, made-up frames or no model, `stages_alone` decoding and encoding by themselves and
split over two processes, `baselines` what others do, `whole_pipeline` ours, `sides` runs any of
them in a process of its own, `tokens` compares what came out, `model_rate` the arithmetic of a
clip, `figures`, `goals`, `report` and `picture` turn it into numbers, tables and a chart.
"""
