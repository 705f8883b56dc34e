"""DiT with a learnable class condition.

Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023,
https://arxiv.org/abs/2212.09748.
"""

from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import PatchEmbed, get_2d_sincos_pos_embed
from torch import Tensor, nn

from latentdc.errors import InputError


def require_one_table(transformer: DiTTransformer2DModel) -> None:
    """Refuse blocks whose class embeddings differ, which one condition cannot stand for.

    Raises:
        InputError: they differ.
    """
    tables = [table for table in _tables(transformer) if table.device.type != "meta"]
    if not all(table.equal(tables[0]) for table in tables):
        raise InputError(
            "the blocks of this DiT have class embeddings that differ, and a learnable condition "
            "takes the place of a single one; use weights in which they are alike, such as "
            "facebook/DiT-XL-2-256."
        )


def _tables(transformer: DiTTransformer2DModel) -> list[Tensor]:
    return [
        block.norm1.emb.class_embedder.embedding_table.weight
        for block in transformer.transformer_blocks
    ]


def place_patches(patches: PatchEmbed, size: int) -> None:
    """Spread the positions that a DiT was trained with evenly over latents of another size.

    Once here, where diffusers would do the same in every call. A grid of n patches has the
    positions 0, N/n, 2N/n, ... of the N that the DiT was made for.

    Args:
        patches: changed in place.
        size: of a latent, along one side.
    """
    grid = size // patches.patch_size
    positions = get_2d_sincos_pos_embed(
        patches.pos_embed.shape[-1],
        (grid, grid),
        base_size=patches.base_size,
        interpolation_scale=patches.interpolation_scale,
        device=patches.pos_embed.device,
        output_type="pt",
    )
    patches.pos_embed = positions.to(patches.pos_embed.dtype)[None]
    patches.height = patches.width = grid


class DiTDenoiser:
    """diffusers' DiTTransformer2DModel; its class embedding is replaced by a learnable condition.

    The released checkpoints hold one embedding table, repeated in every block; the condition
    enters where that table's rows entered: in each block and, through the first block's copy, in
    the output layer. Only the noise half of a prediction with learned sigma is kept.
    """

    def __init__(self, transformer: DiTTransformer2DModel) -> None:
        self.transformer = transformer.eval().requires_grad_(False)
        self.table = _tables(transformer)[0]
        for block in transformer.transformer_blocks:
            block.norm1.emb.class_embedder = nn.Identity()
        self.null = self.table[-1].view(1, 1, -1)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, 1, D)."""
        return self.table[labels][:, None]

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One transformer call."""
        assert context is not None
        timesteps = timestep.expand(len(x))
        prediction: Tensor = self.transformer(x, timesteps, class_labels=context[:, 0]).sample
        return prediction[:, : x.shape[1]]
