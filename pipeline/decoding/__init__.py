"""Reading frames out of untrusted video files, one file at a time.

interface          what a decoder is, its settings, its failures
container_scan     what a container says without decoding: times, completeness
seek_points        key frames from which decoding may begin with the same pixels
packet_selection   the packets that the frames asked for are made of
packets            the packets of a file, from the start or from such a key frame
orientation        rotation, mirroring and pixel aspect
frame_shaping      decoded frames → upright RGB of the size that is asked for …
plane_scaling      … by way of the stored planes: crop and resize, then RGB
pyav_decoder       the primary implementation (one pass, or two for odd files)
scanned_decoder    what other libraries must agree on with the packets to be believed
decord_decoder     the second implementation
torchcodec_decoder the third, optional one
nvdec_decoder      the same on a GPU
cutting            decoder + windows + preprocessing → clips, in this process
fallback           the implementations in order, until one reads the whole file
isolation          the same in a child process that can be killed …
child, clip_server … the program of that child …
slots              … the memory that both share …
messages           … and the words between them
stage              work unit → clips and the unit's end, never raising for one video
"""
