// dweight[o, i] = sum over b of dy[b, o] x[b, i] where i < visible[o], and 0 elsewhere
//
// A workgroup owns 64 outputs x 64 inputs, a thread 8 outputs x (4 + 4) inputs. Tiles above the staircase only store
// zeros. The batch is summed in order, so the same inputs give the same bits.

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

@compute @workgroup_size(8, 8)
fn masked_dense_backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let in_quads = (params.n_in + 3u) / 4u;
    let out_quads = (params.n_out + 3u) / 4u;
    let row = group.x * 64u + local.y * 8u;
    let column = group.y * 64u + local.x * 4u;
    if row >= params.n_out || column >= params.n_in {
        return;
    }
    //#for r in 0..8
    var acc{r}_0 = vec4(0.0);
    var acc{r}_1 = vec4(0.0);
    //#end
    let last = min(group.x * 64u + 63u, params.n_out - 1u);
    let batch = select(0u, params.batch, visible[last] > group.y * 64u);
    let row_0 = row / 4u;
    let row_1 = min(row_0 + 1u, out_quads - 1u);
    let quad_0 = column / 4u;
    let quad_1 = min(quad_0 + 8u, in_quads - 1u);
    for (var b = 0u; b < batch; b++) {
        let dy_0 = dy[b * out_quads + row_0];
        let dy_1 = dy[b * out_quads + row_1];
        let x_0 = x[b * in_quads + quad_0];
        let x_1 = x[b * in_quads + quad_1];
        //#for r in 0..4
        acc{r}_0 += dy_0[{r}] * x_0;
        acc{r}_1 += dy_0[{r}] * x_1;
        //#end
        //#for r in 4..8
        acc{r}_0 += dy_1[{r} - 4] * x_0;
        acc{r}_1 += dy_1[{r} - 4] * x_1;
        //#end
    }
    //#for r in 0..8
    store(row + {r}u, column, in_quads, acc{r}_0);
    store(row + {r}u, column + 32u, in_quads, acc{r}_1);
    //#end
}

fn store(row: u32, column: u32, in_quads: u32, value: vec4<f32>) {
    if row < params.n_out && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        dweight[row * in_quads + column / 4u] = select(vec4(0.0), value, columns < vec4(visible[row]));
    }
}
