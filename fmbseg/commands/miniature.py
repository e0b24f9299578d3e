"""`fmbseg miniature draw`: write images and labels of the shipped small world."""

import argparse

from PIL import Image


def miniature(arguments: argparse.Namespace) -> int:
    """Draw images of the world with their labels and class names."""
    from fmbseg.miniature.world import CLASS_NAMES, generate

    for folder in ("images", "labels"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    for item in generate(arguments.seed, arguments.count, "train", look=arguments.look):
        Image.fromarray(item.image).save(arguments.out / "images" / f"{item.name}.png")
        Image.fromarray(item.labels).save(arguments.out / "labels" / f"{item.name}.png")
    (arguments.out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    print(f"wrote {arguments.count} images with labels to {arguments.out}/")
    return 0
