"""Evaluation: how good a tokenizer, a video codec or a generator is, by a stated protocol.

config            the settings of `jobs/evaluate_tokenizer.py`
protocol          which clips of which videos, at which size
clip_reader       the clips of one video
generated         clips of generated videos and token datasets
tokenizers        what can be evaluated: anything that encodes and decodes
subjects          the rows of a table, by configuration
video_codec       H.264, H.265 and AV1, in memory …
matched_codec     … at the bits of a tokenizer …
bitstream         … and which of their bytes count
feature_networks  what Fréchet distances and inception scores look through
instruments       all measures of a batch of clips
parts, measuring  measures on disk, a few videos at a time; a stopped run goes on
summary           the numbers: means, intervals, distances, use of codebooks
tables            the same for people
shown_clips       the worst and the best clips, read and encoded once more
page              one HTML page of all this
clip_table        every measure of every clip
evaluate          all of it
"""
