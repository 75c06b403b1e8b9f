"""The Lightning modules: one step of Johnson et al. 2016, for each kind of net."""

import math
from collections.abc import Callable, Iterator, Mapping

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from fastnst.brushwork import brushed
from fastnst.data.datamodule import CropData
from fastnst.errors import SharedError
from fastnst.losses.layer_names import STYLE_LAYERS
from fastnst.losses.objective import Objective
from fastnst.losses.terms import reference_picture, stability_loss
from fastnst.models.arbitrary import HIDDEN, ArbitraryNet, Pooling
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.dials import MOST_WEIGHT
from fastnst.models.net import Net
from fastnst.models.transform_net import TransformNet

RIM = 8  # px
Condition = tuple[Tensor | float | None, ...]  # a net's inputs beside the photographs
Paintings = Mapping[str, Tensor] | None  # `Objective.statistics`; None: the objective's own
REDUCED = 0.6  # the smallest part of their size at which paintings train a zero-shot net


class StyleTransfer(pl.LightningModule):
    """Trains `net` on `objective`. The subclasses train nets of several styles and zero-shot nets.

    style_images: the paintings by name, (1, 3, H, W) in 0-1 each, in the objective's order.
    optimizer: makes one from parameters. schedule: makes a learning-rate scheduler from the optimizer and total_steps.
    stability: `weight` of the temporal stability loss, for films: a picture moved by up to `shift` px, with noise of
        standard deviation `noise` (in 0-1), as from a camera, must give the same result, moved alike. 0 leaves it out.
    brushwork: strength of the faint strokes that photographs get, in levels of 255 (fastnst/brushwork.py). In training it is
        drawn for each step from 0 to twice that, so that it is a dial afterwards. They count as content: against a target
        without them a net learns to wipe them out.
    embedding_rate: the factor of the embeddings' learning rate, in a net of several styles and, as they are predicted, in a
        zero-shot net. Their numbers are near 1 where weights are near 0.05, and in a net of several styles only the pictures
        of its style update one. docs/notebook.md has what that gains.
    info: what is written into checkpoints beside the weights (style, objective, version): plain JSON-like values.

    Checkpoints hold the net alone: the loss network and the style's Gram matrices are non-persistent buffers.
    """

    def __init__(
        self,
        net: Net,
        objective: Objective,
        optimizer: Callable,
        schedule: Callable,
        info: dict,
        stability: Mapping[str, float],
        style_images: Mapping[str, Tensor],
        brushwork: float = 0.0,
        embedding_rate: float = 20.0,
    ):
        super().__init__()
        # Channels-last is the layout that CPU and GPU convolutions are fastest in.
        self.net: Net = net.to(memory_format=torch.channels_last)
        self.objective = objective.to(memory_format=torch.channels_last)
        self.make_optimizer, self.make_schedule, self.info = optimizer, schedule, info
        self.stability, self.style_images, self.brushwork = stability, style_images, brushwork
        self.embedding_rate = embedding_rate

    def condition(self, batch: dict) -> tuple[Condition, Paintings]:
        """The net's inputs beside a batch's photographs, and the statistics of their paintings."""
        return (), None

    def style_factor(self) -> float:
        """How much more than its weight style counts in this step."""
        return 1.0

    def validated(self, count: int) -> Iterator[tuple[str, Condition, Paintings]]:
        """The same for `count` photographs in each style that is validated, with its name."""
        yield self.info["style"]["name"], (), None

    def parameter_groups(self) -> list[dict]:
        """The parameters for the optimizer. A group's `rate`, if it has one, multiplies the learning rate."""
        return [{"params": [weight for weight in self.net.parameters() if weight.requires_grad]}]

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        photographs = batch["image"].contiguous(memory_format=torch.channels_last)
        condition, paintings = self.condition(batch)
        # Of two numbers the second: style_factor draws the first.
        _, share = torch.rand(2, generator=torch.Generator().manual_seed(self.global_step)).tolist()
        photographs = brushed(photographs, 2 * share * self.brushwork, seed=self.global_step)
        restyled = self.net(photographs, *condition)
        terms = self.objective(restyled, self.objective.target(photographs), paintings, self.style_factor())
        if self.stability["weight"] > 0:
            moved, window = self._moved(photographs)
            again = self.net(moved, *condition)
            terms["stability"] = stability_loss(_inside(again), _inside(restyled[window]))
            terms["total"] = terms["total"] + self.stability["weight"] * terms["stability"]
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["total"]

    def _moved(self, photographs: Tensor) -> tuple[Tensor, tuple]:
        """The photographs from a moved, noisy camera, and the window of them that it sees."""
        reach = int(self.stability["shift"])
        random = torch.Generator().manual_seed(self.global_step)  # so that a resumed run draws the same
        down, across = torch.randint(0, 2 * reach + 1, (2,), generator=random).tolist()
        height, width = (side - 2 * reach for side in photographs.shape[-2:])
        window = (..., slice(down, down + height), slice(across, across + width))
        random = torch.Generator(self.device).manual_seed(self.global_step)
        noise = torch.randn(photographs[window].shape, generator=random, device=self.device)
        return photographs[window] + self.stability["noise"] * noise, window

    def validation_step(self, batch: dict, batch_index: int) -> Tensor:
        """Logs every term's mean over the held-out photographs, and over the styles where there are several.

        Returns the restyled pictures, (N, 3, H, W), those of several styles side by side.
        """
        photographs = brushed(batch["image"], self.brushwork)
        target, results, terms = self.objective.target(photographs), [], {}
        for name, condition, paintings in self.validated(len(photographs)):
            results.append(self.net(photographs, *condition))
            terms[name] = self.objective(results[-1], target, paintings)
        logged = {f"val/{term}": sum(t[term] for t in terms.values()) / len(terms) for term in terms[name]}
        if len(terms) > 1:
            logged |= {f"val/total/{name}": values["total"] for name, values in terms.items()}
        self.log_dict(logged, batch_size=1, sync_dist=True)
        return torch.cat(results, dim=3).float().clamp(0, 1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.make_optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("rate", 1)
        schedule = self.make_schedule(optimizer, self.trainer.max_steps)
        self.rates = [group["initial_lr"] for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        # A resumed run has the learning rate of its command, and not the checkpoint's: else a run that diverged could not go
        # on with a lower one.
        for optimizer, schedule in zip(self.trainer.optimizers, self.trainer.lr_scheduler_configs, strict=True):
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] *= rate / (group["initial_lr"] or 1)
                group["initial_lr"] = rate
            schedule.scheduler.base_lrs = [*self.rates]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises SharedError for a run whose optimizer has other groups: that of another version."""
        if len(checkpoint["optimizer_states"][0]["param_groups"]) != len(self.parameter_groups()):
            raise SharedError(
                "this run's optimizer is of another version of fastnst, and cannot go on; "
                "start another from its weights: ckpt=null init=FILE.ckpt"
            )

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        for name, weight in self.net.state_dict().items():
            if not weight.isfinite().all():
                raise SharedError(
                    f"{name} is not finite at step {self.global_step}; the last good checkpoint is kept: "
                    "resume from it with a lower optimizer.lr"
                )
        checkpoint["fastnst"] = {"architecture": self.net.architecture, "info": self.info | {"steps": self.global_step}}


def _inside(pictures: Tensor) -> Tensor:
    """Pictures without their rims, where what is reflected differs."""
    return pictures[..., RIM:-RIM, RIM:-RIM]


class ManyStyles(StyleTransfer):
    """Trains a `MultiStyleNet`: each picture of a batch has the style whose turn it is (Dumoulin et al. 2017)."""

    net: MultiStyleNet

    def condition(self, batch: dict) -> tuple[Condition, Paintings]:
        count = len(batch["image"])
        first = (self.global_step * self.trainer.world_size + self.global_rank) * count
        styles = torch.arange(first, first + count, device=self.device) % len(self.net.styles)
        return (styles,), self.objective.paintings(styles)

    def parameter_groups(self) -> list[dict]:
        embeddings = {"params": [self.net.embeddings], "rate": self.embedding_rate}
        weights = [weight for weight in self.net.body.parameters() if weight.requires_grad]
        return [{"params": weights}, embeddings] if weights else [embeddings]

    def validated(self, count: int) -> Iterator[tuple[str, Condition, Paintings]]:
        for number, name in enumerate(self.net.styles):
            styles = torch.full((count,), number, device=self.device)
            yield name, (styles,), self.objective.paintings(styles)


class AnyPainting(StyleTransfer):
    """Trains an `ArbitraryNet` on the data's paintings. The style images are held out for validation.

    Paintings come at sizes from REDUCED on, so that a painting's size controls the size of the strokes. The style weight
    varies too, and the net is told it.
    """

    net: ArbitraryNet
    held_out: Tensor
    reference: Tensor

    def __init__(self, net: ArbitraryNet, objective: Objective, *arguments, **named):
        super().__init__(net, objective, *arguments, **named)
        self.pool = Pooling(objective.loss_network)
        pooled = [self.pool(self._features(image)) for image in self.style_images.values()]
        self.register_buffer("held_out", torch.cat(pooled), persistent=False)
        self.register_buffer("reference", reference_picture(), persistent=False)

    @property
    def data(self) -> CropData:
        return self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it, undeclared

    def on_fit_start(self) -> None:
        if self.net.last.whitened:  # in a run that is resumed, or that began from such a net
            return
        batches = (batch["image"].to(self.device) for batch in self.data.some_paintings(HIDDEN))
        pooled = torch.cat([self.pool(self._features(self._resized(x, number))) for number, x in enumerate(batches)])
        if not self.net.surveyed:
            self.net.survey(pooled)
        self.net.whiten(pooled)
        # Machines may round differently: all take the first one's result.
        state = {name: x.cpu() for name, x in self.net.state_dict().items() if not name.startswith("body.")}
        self.net.load_state_dict(self.trainer.strategy.broadcast(state), strict=False)

    def parameter_groups(self) -> list[dict]:
        first = [x for part in (self.net.body, self.net.head[0]) for x in part.parameters() if x.requires_grad]
        # An embedding is a sum over as many whitened units, which all move at once.
        last = {"params": [*self.net.last.parameters()], "rate": self.embedding_rate / self.net.last.in_features}
        return [{"params": first}, last]

    def condition(self, batch: dict) -> tuple[Condition, Paintings]:
        paintings = self.trainer.strategy.batch_to_device(self.data.next_paintings())
        batch["bad"] += paintings["bad"]
        images = self._resized(paintings["image"], self.global_step).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            counted = self.objective.counted(images)
            pyramid = self.objective.pyramid(counted, {*STYLE_LAYERS, *self.objective.style_layers})
            # The net looks at the paintings themselves: the same features, unless they count as their median.
            seen = pyramid[1] if counted is images and 1 in pyramid else self._features(images)
            pooled, factor = self.pool(seen), self.style_factor()
            # Every other step has the colours of inference, which are stronger than those predicted: so the net learns to
            # keep content at that contrast. The steps between teach it to predict colours.
            colors = self._colors(pooled, images, factor) if self.global_step % 2 else None
            return (pooled, factor, colors), self.objective.statistics(counted, pyramid)

    @torch.no_grad()
    def _colors(self, pooled: Tensor, paintings: Tensor, style_weight: float = 1.0) -> Tensor:
        """Each painting's colour matrix and shift as inference has them, (N, 12): see `ArbitraryNet.colored`."""
        embeddings = zip(self.net.predict(pooled, style_weight).to(self.reference), paintings.split(1), strict=True)
        colored = [self.net.colored(embedding, painting, self.reference) for embedding, painting in embeddings]
        torch.clear_autocast_cache()  # of weights rounded without a gradient, which some versions would use for the step
        return torch.stack(colored)[:, -sum(self.net.parts[-2:]) :]

    def style_factor(self) -> float:
        """Drawn for each step, for the net's dial: from 1 / MOST_WEIGHT to MOST_WEIGHT, its logarithm evenly."""
        random = torch.Generator().manual_seed(self.global_step)
        return MOST_WEIGHT ** (2 * torch.rand((), generator=random).item() - 1)

    def validated(self, count: int) -> Iterator[tuple[str, Condition, Paintings]]:
        for number, name in enumerate(self.style_images):
            one = slice(number, number + 1)
            colors = self._colors(self.held_out[one], self.style_images[name].to(self.device)).expand(count, -1)
            yield name, (self.held_out[one].expand(count, -1), 1.0, colors), self.objective.paintings(one)

    @torch.no_grad()
    def _features(self, paintings: Tensor) -> dict[str, Tensor]:
        return self.objective.features(paintings, STYLE_LAYERS)

    def _resized(self, paintings: Tensor, seed: int) -> Tensor:
        """Paintings, (N, 3, S, S), reduced to a random size: at least REDUCED of S, at least 64 px, a multiple of 16 px."""
        size = paintings.shape[-1]
        sizes = range(max(64, 16 * math.ceil(REDUCED * size / 16)), size + 1, 16) or [size]
        chosen = sizes[int(torch.randint(len(sizes), (), generator=torch.Generator().manual_seed(seed)))]
        return F.interpolate(paintings, (chosen, chosen), mode="bicubic", antialias=True).clamp(0, 1)


MODULES: dict[type[Net], type[StyleTransfer]] = {
    TransformNet: StyleTransfer,
    MultiStyleNet: ManyStyles,
    ArbitraryNet: AnyPainting,
}
