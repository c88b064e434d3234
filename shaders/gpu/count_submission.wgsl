// counter[0] += 1
//
// Runs last in every submission. Some drivers drop a submission without an error; then the count falls behind, and
// nothing read back afterwards passes for a result.

@group(0) @binding(1) var<storage, read_write> counter: array<u32>; // (4)

@compute @workgroup_size(1)
fn count_submission() {
    counter[0] += 1u;
}
