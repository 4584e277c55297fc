"""The smallest networks that every test of a whole run trains."""

TINY_NETWORKS = {
    "derainer_width": 4,
    "derainer_encoder": [1],
    "derainer_middle": 1,
    "derainer_decoder": [1],
    "unet_width": 4,
    "unet_levels": 2,
    "generator_width": 4,
    "generator_blocks": 1,
    "discriminator_width": 4,
}
