"""The loss that training minimises: terms on raw logits under a head."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.losses.comparison import Comparison, VoxelWeight, compare
from pipeline.losses.shape import ShapeTerm, see_objects

Term = Callable[[Comparison], Tensor]


class Loss(nn.Module):
    """A weighted sum of terms, each normalised within its sample, so that micro-batches and ranks add up exactly.

    head: what the channels mean.
    compared_terms: name -> term, averaged over the outputs.
    shape_terms: name -> term, of the prediction alone, the first output.
    shares: name -> its factor in the sum, for both.
    class_weights: float32 (C,), in the order of the head's channels.
    head_weights: factor of each output of a network that returns several; empty: 1, 1/2, 1/4, ... They are normalised:
        sum_i w_i L_i / sum_i w_i.
    weigh: what voxels count in the compared terms, 1 each by default.
    """

    class_weights: Tensor

    def __init__(
        self,
        head: Head,
        compared_terms: Mapping[str, Term],
        shares: Mapping[str, float],
        class_weights: Tensor,
        head_weights: Sequence[float] = (),
        shape_terms: Mapping[str, ShapeTerm] | None = None,
        weigh: VoxelWeight | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.compared_terms, self.shape_terms = dict(compared_terms), dict(shape_terms or {})
        self.shares = dict(shares)
        self.weigh = weigh
        self.head_weights = tuple(head_weights)
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def terms(self) -> list[str]:
        """Names of what `parts` gives, in its order."""
        return [*self.compared_terms, *self.shape_terms]

    def forward(self, logits: Tensor | list[Tensor], labels: Tensor) -> Tensor:
        """Return the loss of each sample, float32 (B,), finite and at least 0; the batch's loss is its mean.

        logits: (B, C, x, y, z) of any floating type, finite; or a list of them, each at its own resolution.
        labels: uint8 (B, X, Y, Z) class indices, 255 where ignored. A sample without valid voxels has loss 0.
        Raises UserError if the channels do not fit the head or the outputs not the head weights.
        """
        return self.total(self.parts(logits, labels))

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of what `parts` gave, (B,): `forward` for a caller that wants both."""
        return torch.stack([self.shares[name] * value for name, value in parts.items()]).sum(0)

    def parts(self, logits: Tensor | list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return every term by name, each float32 (B,) and at least 0; arguments as in `forward`."""
        outputs = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = self._weights_of(outputs) if len(outputs) > 1 else [1.0]
        parts: dict[str, list[Tensor]] = {name: [] for name in self.compared_terms}
        # half precision rounds sums over a patch to a constant or overflows, whatever the network ran in
        with torch.autocast(labels.device.type, enabled=False):
            for output, weight in zip(outputs, weights, strict=True):
                self.head.check(output)
                compared = compare(output.float(), labels, self.head, self.class_weights, self.weigh)
                for name, term in self.compared_terms.items():
                    parts[name].append(weight * term(compared))
            found = {name: torch.stack(values).sum(0) for name, values in parts.items()}
            if self.shape_terms:
                objects = see_objects(outputs[0].float(), labels, self.head, self.class_weights)
                found |= {name: term(objects) for name, term in self.shape_terms.items()}
            return found

    def _weights_of(self, outputs: Sequence[Tensor]) -> list[float]:
        weights = self.head_weights or tuple(0.5**i for i in range(len(outputs)))
        if len(weights) != len(outputs):
            raise UserError(
                f"net.head_weights: {len(weights)} weights, but the network returns {len(outputs)} outputs in training;"
                " give one weight for each, or none for 1, 1/2, 1/4, ..."
            )
        return [weight / sum(weights) for weight in weights]
