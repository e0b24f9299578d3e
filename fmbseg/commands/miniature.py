"""`fmbseg miniature draw`: write images and labels of the shipped small world."""

import argparse

from fmbseg.commands.answer import Answer


def miniature(arguments: argparse.Namespace) -> Answer:
    """Draw images of the world with their labels and class names."""
    from fmbseg.miniature.world import CLASS_NAMES, generate
    from fmbseg.progress import tracked

    arguments.out.mkdir(parents=True, exist_ok=True)
    drawn = generate(arguments.seed, arguments.count, "train", look=arguments.look)
    for item in tracked(drawn, "drawing", total=arguments.count):
        item.save(arguments.out)
    (arguments.out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    print(f"wrote {arguments.count} images with labels to {arguments.out}/")
    return Answer({"out": arguments.out, "images": arguments.count, "classes": CLASS_NAMES})
