"""Checks that the model in model.py is arcsm's: golden files (an independent float64 implementation) and, for the EDM
parametrisation that they lack, a checkpoint of arcsm against what `arcsm score` says of it.

    python check.py GOLDEN_FOLDER [ARCSM_PROGRAM]
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import numpy
import safetensors
import safetensors.torch
import torch

import model

TOLERANCE = 1e-4  # relative, float32 against float64

failures = 0
passes = 0


def check(name, found, expected):
    global failures, passes
    found, expected = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, expected))
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    is_good = error <= TOLERANCE
    failures, passes = failures + (not is_good), passes + is_good
    if not is_good:
        print(f"FAILED {name}: relative error {error:.1e}, at most {TOLERANCE:.0e} expected")


def golden(path):
    about = json.loads(path.with_suffix(".json").read_text())
    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load_file(path).items()}
    settings = model.Settings(
        dimensions=about["D"], hidden=tuple(about["hidden"]), context=about["C"], activation=about["ctx_act"],
        score_hidden=tuple(about["score_hidden"]), score_activation=about["score_act"],
        parametrisation=about["param"], mean=0.25, sd=0.5,
    )
    x = tensors["x"]
    for block, compiled in [(None, False), (7, False), (None, True)]:
        way = f"{path.stem}, blocks of {block}, {'compiled' if compiled else 'eager'}"
        net = model.ArCsm(settings)
        net.load(tensors, "w0.")
        for layer, name in zip(net.masks, range(len(net.masks))):
            check(f"{way}: mask {name}", layer, tensors[f"mask.ctx.layers.{name}.mask"])
        for objective in ["csm", "dsm"]:
            prefix = "dsm_" if objective == "dsm" and about["param"] == "plain" else ""
            noise = [tensors.get(prefix + name, torch.ones_like(x)) for name in ("sigma", "eps")]
            trainer = model.Trainer(net, objective, block, compiled, lr=0.01)
            check(f"{way}: {objective} loss", trainer.gradients(x, *noise), tensors[f"{objective}_loss"][0])
            for names, layers in [("ctx.layers", net.layers), ("net.lin", net.net)]:
                for i, layer in enumerate(layers):
                    check(f"{way}: {names}.{i}", layer.weight.grad, tensors[f"{objective}_grad.{names}.{i}.weight"])
        noise = [tensors.get(name, torch.ones_like(x)) for name in ("sigma", "eps")]
        trainer = model.Trainer(net, "csm", block, compiled, lr=0.01)
        losses = []
        for _ in range(3):
            losses.append(trainer.gradients(x, *noise))
            trainer.adam.step()
        check(f"{way}: losses under Adam", losses, tensors["adam_losses"][:3])


def against_arcsm(program):
    """A few steps of `arcsm train` on its embedded digits, then what `arcsm score` says of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        arcsm = lambda *arguments: subprocess.run([program, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        arcsm("train", "--config", "digits-made", "--steps", "20", "--out", folder / "run")
        weights = folder / "run" / "checkpoints" / "best.safetensors"
        with safetensors.safe_open(weights, "pt") as file:
            sections = tomllib.loads(file.metadata()["config"])["model"]
        score = sections["score"]
        settings = model.Settings(
            dimensions=64, hidden=tuple(sections["hidden"]), context=sections["context"],
            activation=sections["activation"], score_hidden=tuple(score["hidden"]),
            score_activation=score["activation"], parametrisation=score["parametrisation"],
            mean=score["mean"], sd=score["sd"],
        )
        assert settings.parametrisation == "edm", "the recipe for digits has changed"
        x, eps = torch.rand(16, 64), torch.randn(16, 64)
        sigma = torch.exp(math.log(0.03) * torch.rand(16, 64))
        for name, tensor in [("x", x), ("eps", eps), ("sigma", sigma)]:
            numpy.save(folder / f"{name}.npy", tensor.numpy())
        noise = ["--sigma", folder / "sigma.npy", "--noise", folder / "eps.npy"]
        arcsm("score", "--checkpoint", weights, "--input", folder / "x.npy", *noise, "--out", folder / "scores.npz")
        expected = numpy.load(folder / "scores.npz")
        net = model.ArCsm(settings)
        net.load(safetensors.torch.load_file(weights))
        c = net.contexts(x)
        s, ds = net.scores(c.flatten(0, 1), (x + sigma * eps).flatten(), sigma.flatten())
        check("edm: contexts", c, expected["context"])
        check("edm: scores", s.view_as(x), expected["score"])
        check("edm: slopes", ds.view_as(x), expected["slope"])


def main(folder, program=None):
    torch.manual_seed(0)
    paths = sorted(pathlib.Path(folder).glob("made_*.safetensors"))
    if not paths:
        print(f"SKIPPED: no made_*.safetensors in {folder}; the model is not compared with the golden files")
    for path in paths:
        golden(path)
    if program:
        against_arcsm(program)
    else:
        print("SKIPPED: no arcsm given; the EDM parametrisation is not compared")
    print(f"pytorch {torch.__version__}: {passes} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
