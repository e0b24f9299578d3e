"""Talk2DINO on the miniature: CLIP's text taken to the vision encoder by captions, no masks."""
