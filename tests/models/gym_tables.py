"""Two tables of Gymnasium's toy text environments, from their public rules."""

from __future__ import annotations

LAKE = "SFFF FHFH FFFH HFFG".split()
STANDS = {"R": (0, 0), "G": (0, 4), "Y": (4, 0), "B": (4, 3)}
WALLS = {(row, column) for row, columns in ((0, {1}), (1, {1}), (3, {0, 2}), (4, {0, 2})) for column in columns}

Table = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


def frozen_lake() -> Table:
    """The slippery 4x4 map: a move goes as intended or to one of the two sides, a third each; the goal pays 1."""
    moves = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up

    def slide(state: int, direction: int) -> tuple[float, int, float, bool]:
        row, column = (min(max(x + d, 0), 3) for x, d in zip(divmod(state, 4), moves[direction % 4], strict=True))
        tile = LAKE[row][column]
        return 1 / 3, 4 * row + column, float(tile == "G"), tile in "GH"

    return {
        s: {
            a: [(1.0, s, 0.0, True)] if LAKE[s // 4][s % 4] in "GH" else [slide(s, a + side) for side in (-1, 0, 1)]
            for a in range(4)
        }
        for s in range(16)
    }


def taxi_state(row: int, column: int, passenger: int, destination: int) -> int:
    """The number of a state; passenger 4 sits in the taxi."""
    return ((5 * row + column) * 5 + passenger) * 4 + destination


def taxi() -> Table:
    """Five by five places with walls, four stands; 20 for a delivery, -10 for a wrong pickup or dropoff, else -1."""
    stands = list(STANDS.values())
    table: Table = {}
    for row in range(5):
        for column in range(5):
            for passenger in range(5):
                for destination in range(4):
                    here = (row, column)
                    east = column < 4 and here not in WALLS
                    west = column > 0 and (row, column - 1) not in WALLS
                    to = [
                        (min(row + 1, 4), column, passenger),
                        (max(row - 1, 0), column, passenger),
                        (row, column + east, passenger),
                        (row, column - west, passenger),
                    ]
                    found = [(1.0, taxi_state(*place, destination), -1.0, False) for place in to]
                    same = taxi_state(row, column, passenger, destination)
                    waits = passenger < 4 and here == stands[passenger]
                    inside = taxi_state(row, column, 4, destination)
                    found.append((1.0, inside, -1.0, False) if waits else (1.0, same, -10.0, False))
                    if passenger == 4 and here == stands[destination]:
                        found.append((1.0, taxi_state(row, column, destination, destination), 20.0, True))
                    elif passenger == 4 and here in stands:
                        found.append((1.0, taxi_state(row, column, stands.index(here), destination), -1.0, False))
                    else:
                        found.append((1.0, same, -10.0, False))
                    table[same] = {a: [entry] for a, entry in enumerate(found)}
    return table
