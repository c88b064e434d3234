// The order 0, n - 1, 1, n - 2, ... of n tiles whose work rises or falls steadily, as under a staircase mask: any two neighbours
// take as long as any other two, so that adapters which split the grid into equal parts beforehand finish them together.

fn paired(index: u32, n: u32) -> u32 {
    return select(index / 2u, n - 1u - index / 2u, index % 2u == 1u);
}

