"""The irregular 6x6 grid as a picture: links, the two bridges, and how busy shortest paths keep every node."""

from __future__ import annotations

from matplotlib.figure import Figure

from icsmdp_jax.drawing.style import BLACK, BLUE, COLUMN_WIDTH, GREY, house_style, new_figure
from icsmdp_jax.envs.routing.graph import critical_load, irregular_grid, next_slots, through_traffic

SIDE = 6
BRIDGES = ((2, 3), (14, 15))  # the links between the left half and the right half


def draw() -> Figure:
    """The grid, nodes row-major from the top left; the area of a disc is the traffic through its node.

    Returns:
      A ``matplotlib`` figure, one column wide.
    """
    graph = irregular_grid()
    through = through_traffic(graph, next_slots(graph))
    share = through / through.max()
    with house_style():
        figure = new_figure(COLUMN_WIDTH, 3.75)
        axes = figure.add_subplot()
        for a, b in graph.links:
            bridge = (a, b) in BRIDGES
            ends = zip(_place(a), _place(b), strict=True)
            axes.plot(
                *ends, color=BLACK if bridge else GREY, lw=3.2 if bridge else 0.9, zorder=1, solid_capstyle="butt"
            )
        for node in range(graph.num_nodes):
            x, y = _place(node)
            axes.scatter(x, y, s=75 + 300 * share[node], color="white", edgecolor=BLUE, linewidth=1.0, zorder=2)
            axes.text(x, y, str(node), ha="center", va="center", fontsize=7, zorder=3)
        for a, b in BRIDGES:
            (x, y), (right, _) = _place(a), _place(b)
            axes.annotate("bridge", ((x + right) / 2, y), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        axes.set_aspect("equal")
        axes.set_xlim(-0.5, SIDE - 0.5)
        axes.set_ylim(-SIDE + 0.5, 0.5)
        axes.axis("off")
        busiest = int(through.argmax())
        figure.supxlabel(
            "disc: traffic through the node under shortest paths\n"
            f"(busiest: node {busiest}, always at work from load {critical_load(graph):.3f} on)",
            fontsize=7.4,
        )
    return figure


def _place(node: int) -> tuple[int, int]:
    row, column = divmod(node, SIDE)
    return column, -row
