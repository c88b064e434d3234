"""The model of arcsm in PyTorch, written for speed on a CPU, and on a GPU where it is the default device.

An autoregressive conditional score model: a masked dense network (MADE) turns x_<d into K numbers of context c_d, and one
small network shared by all dimensions turns (c_d, x_d, sigma) into the score s_d = d/dx_d log p(x_d | x_<d).
Letters: B batch, D dimensions, K context width, N rows of the score network (B * D in a training step).

What makes it fast, next to the obvious `torch.autograd.grad(..., create_graph=True)`:
- ds_d/dx_d is carried forward beside the value (forward mode), with the second derivative of the activation by hand;
- masked-out weights are zero from the start and their gradients are zeroed in place, so no pass multiplies by a mask;
- the tangent of the first layer is one row for all N;
- a training step can take the N rows in blocks that fit the cache (see `Trainer`).
"""

import dataclasses
import functools
import math

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and forms, by the names of arcsm's configuration."""

    dimensions: int
    hidden: tuple = (512, 512)
    context: int = 8
    activation: str = "relu"
    score_hidden: tuple = (64, 64)
    score_activation: str = "silu"
    parametrisation: str = "edm"
    mean: float = 0.5
    sd: float = 12**-0.5
    sigma_min: float = 0.03
    sigma_max: float = 1.0


class Activation(torch.autograd.Function):
    """h = phi(z) and its tangent h' = phi'(z) t, with the gradients of both. `t` may be one row for all."""

    @staticmethod
    def forward(ctx, z, t, name):
        if name == "silu":
            s = torch.sigmoid(z)
            h = z * s
            slope = torch.addcmul(s, h, 1 - s)
        elif name == "softplus":
            s = torch.sigmoid(z)
            h, slope = F.softplus(z), s
        elif name == "tanh":
            s = h = torch.tanh(z)
            slope = 1 - h * h
        else:
            raise ValueError(f"activation {name}: expected silu, softplus or tanh")
        ctx.name = name
        ctx.save_for_backward(s, h, slope, t)
        return h, slope * t

    @staticmethod
    def backward(ctx, dh, dtangent):
        s, h, slope, t = ctx.saved_tensors
        if ctx.name == "silu":
            curvature = (1 - s) * (s + slope - h * s)
        elif ctx.name == "softplus":
            curvature = s * (1 - s)
        else:
            curvature = -2 * h * slope
        dt = dtangent * slope
        dz = torch.addcmul(dh * slope, dtangent, curvature * t)
        return dz, dt.sum_to_size(t.shape), None


class ArCsm(torch.nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.settings = settings
        degrees = [torch.arange(1, settings.dimensions + 1)]
        degrees += [hidden_degrees(width, settings.dimensions) for width in settings.hidden]
        degrees += [degrees[0].repeat_interleave(settings.context)]
        self.masks, self.layers = [], torch.nn.ModuleList()
        for i, (low, high) in enumerate(zip(degrees, degrees[1:])):
            is_last = i + 2 == len(degrees)
            mask = high[:, None] > low[None, :] if is_last else high[:, None] >= low[None, :]
            self.masks.append(mask.float())
            self.layers.append(torch.nn.Linear(len(low), len(high)))
        n_in = settings.context + (1 if settings.parametrisation == "plain" else 2)
        widths = [n_in, *settings.score_hidden, 1]
        self.net = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.forbid_masked()

    def forbid_masked(self):
        """Zeroes what the masks forbid: weights now, gradients whenever they arrive."""
        for layer, mask in zip(self.layers, self.masks):
            layer.weight.data.mul_(mask)
            layer.weight.register_post_accumulate_grad_hook(functools.partial(mask_gradient, mask))

    def hidden(self, x):
        activation = {"relu": F.relu, "elu": F.elu, "silu": F.silu}[self.settings.activation]
        for layer in self.layers[:-1]:
            x = activation(layer(x))
        return x

    def contexts(self, x):
        """(B, D) -> (B, D, K); c_d depends on x_<d alone."""
        return self.layers[-1](self.hidden(x)).view(len(x), -1, self.settings.context)

    def context_of(self, x, d):
        """(B, D) -> (B, K): the last layer computes dimension d alone."""
        rows = slice(d * self.settings.context, (d + 1) * self.settings.context)
        return F.linear(self.hidden(x), self.layers[-1].weight[rows], self.layers[-1].bias[rows])

    def scores(self, c, x, sigma, with_slope=True):
        """Scores of N rows and, where asked for, their slopes by x. c (N, K), x and sigma (N)."""
        settings = self.settings
        centred = x - settings.mean
        if settings.parametrisation == "plain":
            inputs, scale, seed, drift = torch.column_stack([c, x]), None, None, None
        elif settings.parametrisation == "osig":
            inputs = torch.column_stack([c, centred, 0.5 * torch.log(sigma)])
            scale, seed, drift = 1 / sigma, None, None
        else:
            variance = settings.sd**2 + sigma * sigma
            seed, drift = torch.rsqrt(variance), 1 / variance
            inputs = torch.column_stack([c, centred * seed, 0.5 * torch.log(sigma)])
            scale = settings.sd * seed / sigma
        h, tangent = inputs, None
        for i, layer in enumerate(self.net[:-1]):
            z = layer(h)
            if not with_slope:
                h = {"silu": F.silu, "softplus": F.softplus, "tanh": torch.tanh}[settings.score_activation](z)
                continue
            t = layer.weight[:, settings.context][None] if i == 0 else F.linear(tangent, layer.weight)
            h, tangent = Activation.apply(z, t, settings.score_activation)
        s = self.net[-1](h).squeeze(1)
        ds = F.linear(tangent, self.net[-1].weight).squeeze(1) if with_slope else None
        if scale is not None:
            s = s * scale
            ds = ds * scale if with_slope else None
        if seed is not None:
            s = s - centred * drift
            ds = ds * seed - drift if with_slope else None
        return s, ds

    def loss(self, objective, c, x, sigma, eps):
        """Sum over N rows; x is clean, except that `plain` models take it as it is."""
        if objective == "dsm":
            s, _ = self.scores(c, x + sigma * eps, sigma, with_slope=False)
            return 0.5 * (sigma * s + eps).square().sum()
        if self.settings.parametrisation == "plain":
            s, ds = self.scores(c, x, sigma)
            return (0.5 * s.square() + ds).sum()
        s, ds = self.scores(c, x + sigma * eps, sigma)
        return (sigma.square() * (0.5 * s.square() + ds)).sum()

    def load(self, tensors, prefix=""):
        """Takes weights by the names that arcsm's checkpoints and golden files have in common."""
        with torch.no_grad():
            for name, layers in [("ctx.layers", self.layers), ("net.lin", self.net)]:
                for i, layer in enumerate(layers):
                    layer.weight.copy_(tensors[f"{prefix}{name}.{i}.weight"])
                    layer.bias.copy_(tensors[f"{prefix}{name}.{i}.bias"])


def mask_gradient(mask, weight):
    weight.grad.mul_(mask)


def hidden_degrees(width, dimensions):
    return torch.arange(width) * max(1, dimensions - 1) // width + 1


class Trainer:
    """Training steps. `block` rows pass the score network at a time, forward and backward (None: all); `compiled` sends
    its loss through `torch.compile`. The result is the same up to the order of sums."""

    def __init__(self, model, objective, block=None, compiled=False, **adam):
        self.model, self.objective, self.block = model, objective, block
        self.row_loss = torch.compile(model.loss, dynamic=False) if compiled else model.loss
        on_gpu = torch.get_default_device().type == "cuda"
        self.adam = torch.optim.Adam(model.parameters(), fused=True, capturable=on_gpu, **adam)

    def gradients(self, x, sigma, eps):
        """Loss of a batch (a tensor, so that a GPU need not be waited for) and its gradients, in `.grad`."""
        self.adam.zero_grad(set_to_none=True)
        batch = len(x)
        rows = [tensor.reshape(-1) for tensor in (x, sigma, eps)]
        contexts = self.model.contexts(x)
        if self.block is None:
            loss = self.row_loss(self.objective, contexts.flatten(0, 1), *rows) / batch
            loss.backward()
            return loss.detach()
        # The graph is cut at the contexts, so that each block's activations live in the cache and die there.
        leaf = contexts.detach().flatten(0, 1)
        dcontexts, total = torch.empty_like(leaf), 0.0
        for first in range(0, len(leaf), self.block):
            part = slice(first, first + self.block)
            c = leaf[part].requires_grad_()
            loss = self.row_loss(self.objective, c, *(row[part] for row in rows)) / batch
            loss.backward()
            dcontexts[part] = c.grad
            total = total + loss.detach()
        contexts.backward(dcontexts.view_as(contexts))
        return total

    def step(self, x):
        """One step on a clean batch, noise drawn here: sigma log-uniform, one for each image and dimension."""
        settings = self.model.settings
        low, high = math.log(settings.sigma_min), math.log(settings.sigma_max)
        sigma = torch.rand_like(x).mul_(high - low).add_(low).exp_()
        loss = self.gradients(x, sigma, torch.randn_like(x))
        self.adam.step()
        return loss


@torch.inference_mode()
def langevin(model, count, dimensions, levels=10, steps=10, step_size=1.0, contexts="full", chain=None):
    """Fills in `dimensions` of `count` images one after another by annealed Langevin dynamics and a denoising step, in the
    usual way: a pass of the context network for each. `contexts`: "full" computes all of its outputs, "needed" those of the
    dimension alone. `chain`: something that does what `langevin_chain` does with these settings."""
    x = torch.zeros(count, model.settings.dimensions)
    chain = chain or functools.partial(langevin_chain, model, levels=levels, steps=steps, step_size=step_size)
    for d in dimensions:
        c = model.contexts(x)[:, d] if contexts == "full" else model.context_of(x, d)
        x[:, d] = chain(c)
    return x


@torch.inference_mode()
def langevin_chain(model, c, levels, steps, step_size):
    """Draws one dimension given its context c (N, K)."""
    settings, count = model.settings, len(c)
    sigmas = torch.logspace(math.log10(settings.sigma_max), math.log10(settings.sigma_min), levels, device="cpu").tolist()
    y = settings.mean + settings.sigma_max * torch.randn(count)
    for level in sigmas:
        sigma = torch.full((count,), level)
        for _ in range(steps):
            s, _ = model.scores(c, y, sigma, with_slope=False)
            y = y + 0.5 * step_size * level**2 * s + step_size**0.5 * level * torch.randn(count)
    s, _ = model.scores(c, y, sigma, with_slope=False)
    return y + sigmas[-1] ** 2 * s
