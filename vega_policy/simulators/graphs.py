"""CUDA graphs for the fixed-shape path: a frozen backbone is launched as one unit instead of op by op.

An eager pass launches some forty kernels per block; at a batch of two small pictures launching them takes
longer than running them. A graph reads and writes fixed addresses, so it is thrown away whenever the
module moves or its derived constants change.
"""

from typing import Self

import torch
from torch import Tensor, nn

WARM_UP_RUNS = 3
"""Runs on a side stream before capture, as torch's documentation of CUDA graphs asks for."""


class GraphCache:
    """One captured graph per input shape and device. Copies of it start empty: addresses are not copied."""

    def __init__(self) -> None:
        self._captured: dict[
            tuple[torch.Size, torch.device], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]
        ] = {}

    def run(self, module: nn.Module, canvas: Tensor) -> Tensor:
        """`module(canvas)`; the first call with a shape captures, later ones replay."""
        key = (canvas.shape, canvas.device)
        if key not in self._captured:
            self._captured[key] = _capture(module, canvas)
        graph, graph_input, graph_output = self._captured[key]
        graph_input.copy_(canvas)
        graph.replay()
        return graph_output.clone()

    def clear(self) -> None:
        """Forgets every graph."""
        self._captured.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return type(self)()

    def __getstate__(self) -> dict[str, object]:
        return {"_captured": {}}


def _capture(module: nn.Module, canvas: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
    graph_input = canvas.clone()
    stream = torch.cuda.Stream(canvas.device)
    stream.wait_stream(torch.cuda.current_stream(canvas.device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):
            module(graph_input)
    torch.cuda.current_stream(canvas.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        graph_output = module(graph_input)
    return graph, graph_input, graph_output
