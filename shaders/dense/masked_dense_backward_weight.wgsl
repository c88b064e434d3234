// dweight[o, i] = sum over b of dy[b, o] x[b, i] where i < visible[o]; elsewhere it is 0 before and after
//
// A workgroup owns 8 ROWS outputs x 64 inputs, a thread ROWS outputs x (4 + 4) inputs. Tiles above the staircase have
// nothing to do. The batch is summed in order, so the same inputs give the same bits.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(3) var<storage, read> visible: array<u32>; // (n_out)
@group(0) @binding(4) var<storage, read_write> dweight: array<vec4<f32>>; // (n_out, n_in)

//#include broadcast
//#include paired
//#loads dy x
@compute @workgroup_size(8, GROUP_ROWS)
fn masked_dense_backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let in_quads = (params.n_in + 3u) / 4u;
    let out_quads = (params.n_out + 3u) / 4u;
    let row = (group.x * GROUP_ROWS + local.y) * ROWS;
    let tile = paired(group.y, (params.n_in + 63u) / 64u);
    let last = min((group.x + 1u) * GROUP_ROWS * ROWS, params.n_out) - 1u;
    if row >= params.n_out || visible[last] <= tile * 64u {
        return;
    }
    let column = tile * 64u + local.x * 4u;
    let quad_0 = min(column / 4u, in_quads - 1u);
    let quad_1 = min(column / 4u + 8u, in_quads - 1u);
    //#for r in 0..ROWS
    var acc{r}_0 = vec4(0.0);
    var acc{r}_1 = vec4(0.0);
    //#end
    //#for q in 0..ROWS/4
    let row{q} = min(row / 4u + {q}u, out_quads - 1u);
    //#end
    for (var first = 0u; first < params.batch; first += LANES) {
        let own = min(first + local.x % LANES, params.batch - 1u) * out_quads;
        //#for q in 0..ROWS/4
        let own{q} = dy_at(own + row{q});
        //#end
        for (var b = first; b < min(first + LANES, params.batch); b++) {
            let x_0 = x_at(b * in_quads + quad_0);
            let x_1 = x_at(b * in_quads + quad_1);
            //#for r in 0..ROWS
            let dy{r} = broadcast(own{r/4}, b - first)[{r%4}];
            acc{r}_0 += dy{r} * x_0;
            acc{r}_1 += dy{r} * x_1;
            //#end
        }
    }
    //#for r in 0..ROWS
    store(row + {r}u, column, acc{r}_0);
    store(row + {r}u, column + 32u, acc{r}_1);
    //#end
}

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.n_out && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * ((params.n_in + 3u) / 4u) + column / 4u;
        dweight[at] = select(vec4(0.0), value, columns < vec4(visible[row]));
    }
}
