"""Times the PyTorch model. Reads a request a line from standard input (JSON), answers each with a line (JSON).

    {"case": "train-step", "objective": "csm", "batch": 128, "dimensions": 784, "hidden": [512, 512], "context": 8}
    {"case": "gemm-forward", "batch": 128, "n_in": 1024, "n_out": 1024}
    {"case": "sample-langevin", "batch": 100, "levels": 10, "steps": 10, "slice": 28, "contexts": "full", ...}

The answer has `seconds` for one step, product or batch of whole images, and `how`: a case is prepared at its first request,
where every way to do it is tried and the fastest kept. `python bench.py verify-slice` holds a slice against the whole;
`python bench.py cuda` answers for a GPU, where every way is tried as a CUDA graph, too.
"""

import functools
import json
import platform
import sys
import time

import torch

import model

STRETCH = 1.0  # s: cheap units are repeated for about this long


def on_gpu():
    return torch.get_default_device().type == "cuda"


def clocked(work, units):
    start = time.perf_counter()
    for _ in range(units):
        work()
    if on_gpu():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / units


def as_graph(work):
    """What does the same as `work` on the same tensors, launched at once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def settings_of(request):
    return model.Settings(request["dimensions"], tuple(request["hidden"]), request["context"])


def train_step(request):
    """Every way to make a training step."""
    data = torch.rand(2048, request["dimensions"])
    blocks = [None] if on_gpu() else [None, 4096, 12544]
    for compiled in [False, True]:
        for block in blocks:
            net = model.ArCsm(settings_of(request))
            trainer = model.Trainer(net, request["objective"], block, compiled, lr=1e-4, betas=(0.9, 0.99))
            rows = "all rows at once" if block is None else f"{block} rows at a time"

            batch = data[: request["batch"]].clone()

            def next_batch():
                first = int(torch.randint(0, len(data) - request["batch"], (), device="cpu"))
                return data[first : first + request["batch"]]

            def step(trainer=trainer, next_batch=next_batch):
                trainer.step(next_batch())

            how = f"{'compiled' if compiled else 'eager'}, {rows}"
            yield how, step, 1
            if on_gpu():

                def graph_step(trainer=trainer, batch=batch, next_batch=next_batch, graphs=[]):
                    if not graphs:
                        graphs.append(as_graph(lambda: trainer.step(batch)))
                    batch.copy_(next_batch())
                    graphs[0]()

                yield f"{how}, as a CUDA graph", graph_step, 1


def gemm_forward(request):
    layer = torch.nn.Linear(request["n_in"], request["n_out"])
    x = torch.randn(request["batch"], request["n_in"])
    out = torch.empty(request["batch"], request["n_out"])
    weight, bias = layer.weight.detach(), layer.bias.detach()
    with_bias = functools.partial(torch.addmm, bias, x, weight.T, out=out)
    transposed = weight.T.contiguous()
    yield "addmm", with_bias, 1
    yield "addmm, weight transposed", functools.partial(torch.addmm, bias, x, transposed, out=out), 1


def sample_langevin(request):
    """A slice of the dimensions, spread evenly; each costs the same here, for each makes its own pass."""
    net = model.ArCsm(settings_of(request))
    n_dimensions, n_slice = request["dimensions"], request["slice"]
    dimensions = torch.linspace(0, n_dimensions - 1, n_slice).long().tolist()
    draw = functools.partial(
        model.langevin, net, request["batch"], dimensions, request["levels"], request["steps"],
        contexts=request["contexts"],
    )
    slice_of_all = f"{n_slice} of {n_dimensions} dimensions"
    if on_gpu():
        yield f"eager, {slice_of_all}", draw, n_dimensions / n_slice
        context = torch.zeros(request["batch"], request["context"])
        drawn = torch.zeros(request["batch"])

        def chain():
            drawn.copy_(model.langevin_chain(net, context, request["levels"], request["steps"], 1.0))

        def replayed(c, graphs=[]):
            if not graphs:
                graphs.append(as_graph(chain))
            context.copy_(c)
            graphs[0]()
            return drawn

        yield f"chains as CUDA graphs, {slice_of_all}", functools.partial(draw, chain=replayed), n_dimensions / n_slice
        return
    for threads in sorted({1, torch.get_num_threads()}):

        def on_threads(threads=threads):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            draw()
            torch.set_num_threads(before)

        yield f"{threads} threads, {slice_of_all}", on_threads, n_dimensions / n_slice


CASES = {"train-step": train_step, "gemm-forward": gemm_forward, "sample-langevin": sample_langevin}


def prepare(request):
    """Tries every way and returns the fastest: (how, work, factor from its work to a whole unit)."""
    best = None
    for how, work, factor in CASES[request["case"]](request):
        try:
            work()
            cost = min(clocked(work, 1) for _ in range(3))
        except Exception as error:  # torch.compile without a C++ compiler, for one
            print(f"pytorch: {how}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        print(f"pytorch: {request['case']}, {how}: {1e3 * cost:.1f} ms", file=sys.stderr)
        if best is None or cost < best[0]:
            best = cost, (how, work, factor)
    return best[1]


def serve():
    prepared = {}
    where = torch.cuda.get_device_name() if on_gpu() else f"{torch.get_num_threads()} threads"
    about = {"name": f"PyTorch {torch.__version__}, {where}", "python": platform.python_version()}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        if line not in prepared:
            prepared[line] = prepare(json.loads(line))
        how, work, factor = prepared[line]
        units = max(1, min(200, int(STRETCH / clocked(work, 1))))
        print(json.dumps({"seconds": factor * clocked(work, units), "how": how}), flush=True)


def verify_slice():
    """A slice of the dimensions predicts the time of them all, on a chain of 10 evaluations."""
    request = {"dimensions": 784, "hidden": [512, 512], "context": 8, "batch": 16, "levels": 5, "steps": 2, "contexts": "full"}
    works = {n: next(iter(sample_langevin({**request, "slice": n}))) for n in (28, 784)}
    times = {n: [] for n in works}
    for _ in range(4):
        for n, (_, work, factor) in works.items():
            times[n].append(factor * clocked(work, 784 // n))  # as long as the whole takes, one after the other
    times = {n: min(each) for n, each in times.items()}  # the least: other work on the machine only adds
    error = times[28] / times[784] - 1
    print(f"28 of 784 dimensions predict {times[28]:.2f} s for all of them, which took {times[784]:.2f} s: {100 * error:+.1f} %")


if __name__ == "__main__":
    torch.manual_seed(0)
    if "cuda" in sys.argv[1:]:
        torch.set_default_device("cuda")
    verify_slice() if "verify-slice" in sys.argv[1:] else serve()
