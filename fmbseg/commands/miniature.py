"""`fmbseg miniature draw`: write images and labels of the shipped small world."""

import argparse


def miniature(arguments: argparse.Namespace) -> int:
    """Draw images of the world with their labels and class names."""
    from fmbseg.miniature.world import CLASS_NAMES, generate

    arguments.out.mkdir(parents=True, exist_ok=True)
    for item in generate(arguments.seed, arguments.count, "train", look=arguments.look):
        item.save(arguments.out)
    (arguments.out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    print(f"wrote {arguments.count} images with labels to {arguments.out}/")
    return 0
