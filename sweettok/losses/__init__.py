"""Losses beside the pixels: perceptual distance, discriminator, adversarial objectives.

    perceptual.py      distance of deep features, frame by frame, through a frozen network
    vgg.py             that network and its weight files
    discriminator.py   a 3-D patch discriminator for clips and single images
    adversarial.py     hinge and non-saturating losses, LeCam, weight and schedule

Nothing here belongs to the tokenizer: none of it is in its state dict or needed to use it.
"""
