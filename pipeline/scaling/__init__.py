"""What costs become as a corpus grows (jobs/benchmark_scaling.py), and throughput as a cluster does
(jobs/benchmark_cluster.py).

The corpus: `growth_config` what is measured, `corpora` the manifests and datasets of videos that do
not exist, `growth_steps` the steps, each in a process of its own, `process_memory` its peak,
`curves` the laws through the sizes, `growth` the run, `growth_report` its tables and picture.

The cluster: `cluster_config` what is measured, `simulated_stages` stages that only take their time,
`simulated_cluster` many raylets on this machine, `cluster_run` the real engine over them (Ray in
these two alone), `cluster_figures` and `cluster_report` what the encoders' clocks say.

`line_chart` draws for both.
"""
