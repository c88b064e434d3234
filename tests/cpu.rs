//! What can be said of the kernels without an adapter.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use arcsm::bench::{Tour, write_shaders};
use arcsm::codes::Activation;
use arcsm::config::Config;
use arcsm::doctor::CHECKS;
use arcsm::gpu::reflect::mismatches;
use arcsm::gpu::{Access, Binding, Form, Gpu, Kernel, KernelSpec, Needs, Scalar, Variant};
use arcsm::kernels::{ALL, CountSubmission, MaskedDenseForward};
use arcsm::shape::SampleShape;
use serde_json::Value;

/// Some values of a kernel's constants, so that each constant takes each of its values at least once.
fn constant_sets(spec: &KernelSpec) -> Vec<Vec<u32>> {
    let value = |name: &str, set: u32| match name {
        "ACTIVATION" => set,
        "CONTEXT_ACTIVATION" => (set + 1) % 6,
        "PARAMETRISATION" => set % 3,
        "OBJECTIVE" => set % 5,
        "FAMILY" => set % 2,
        "TANGENT" => u32::from(set % 4 != 1),
        "RESIDUAL" => set % 2,
        "IS_IMAGE_NET" => (set + 1) % 2,
        "GATE" => [Activation::Tanh, Activation::Identity][set as usize % 2] as u32,
        "QUADS_0" => 1 + set,
        "QUADS_1" => [2, 16, 4][set as usize % 3],
        "WIDE" | "PROBES" => set % 2,
        "LAYERS" => 2 + set % 3,
        "HIDDEN" => 1 + set % 3,
        "WIDTH_0" => 1 + set,
        "WIDTH_1" | "WIDTH_2" | "WIDTH_3" | "WIDTH_4" => [2, 16, 4][set as usize % 3],
        "NET_QUADS" => [1, 17, 4096][set as usize % 3],
        "LINES" => 1 + set % 2,
        "SAMPLES" => 1 << (set % 4),
        unknown => panic!("give the constant {unknown} values to be tested with"),
    };
    let sets = if spec.constant_names().next().is_none() { 1 } else { 6 };
    (0..sets).map(|set| spec.constant_names().map(|name| value(name, set)).collect()).collect()
}

/// Every variant with its kernel and some constants that it serves.
fn every_variant() -> impl Iterator<Item = (&'static KernelSpec, &'static Variant, Vec<u32>)> {
    let of_spec = |spec: &&'static KernelSpec| {
        let spec = *spec;
        spec.variants
            .iter()
            .flat_map(move |variant| constant_sets(spec).into_iter().map(move |set| (spec, variant, set)))
            .filter(|(spec, variant, set)| variant.serves(spec, set))
    };
    ALL.iter().flat_map(of_spec)
}

#[test]
fn wgsl_is_what_the_declarations_say() {
    let found: Vec<_> = every_variant().flat_map(|(spec, variant, set)| mismatches(spec, variant, &set)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn pipelines_validate() {
    let gpu = Gpu::noop();
    // That device offers the defaults of WebGPU and nothing else.
    for (spec, variant, set) in every_variant().filter(|(_, variant, _)| variant.needs <= Needs::Workgroup) {
        gpu.compiles(spec, variant, &set).unwrap_or_else(|error| panic!("{set:?}: {error}"));
    }
}

#[test]
fn a_pipeline_that_contradicts_its_declaration_is_refused() {
    let right = MaskedDenseForward::SPEC;
    let bindings = right.bindings.iter().map(|binding| Binding { access: Access::Read, ..*binding });
    let wrong = Box::leak(Box::new(KernelSpec { bindings: bindings.collect::<Vec<_>>().leak(), ..*right }));
    let baseline = right.variants.last().expect("every kernel has one");
    let error = Gpu::noop().compiles(wrong, baseline, &[]).expect_err("y is written").to_string();
    assert!(error.contains("masked_dense_forward"), "{error}");
}

fn stems(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("shaders are there").map(|entry| entry.expect("readable").path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned()).collect()
}

#[test]
fn every_file_is_declared() {
    let names: HashSet<&str> = ALL.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), ALL.len(), "two kernels of one name");
    let declared: BTreeSet<String> = every_variant().map(|(_, variant, _)| variant.name.to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let rooms = std::fs::read_dir(&folder).expect("shaders are there").map(|entry| entry.expect("readable").path());
    let rooms = rooms.filter(|room| room.is_dir() && !room.ends_with("shared"));
    assert_eq!(declared, rooms.flat_map(|room| stems(&room)).collect());
    let composed: Vec<String> =
        every_variant().map(|(spec, variant, set)| variant.compose(spec, &set).expect("composed")).collect();
    for shared in stems(&folder.join("shared")) {
        let text = std::fs::read_to_string(folder.join(format!("shared/{shared}.wgsl"))).expect("readable");
        let head = text.lines().take(2).collect::<Vec<_>>().join("\n");
        assert!(composed.iter().any(|source| source.contains(&head)), "no kernel includes shared/{shared}.wgsl");
    }
}

#[test]
fn variants_are_told_apart_and_end_with_the_baseline() {
    for spec in ALL {
        let needs: Vec<Needs> = spec.variants.iter().map(|variant| variant.needs).collect();
        assert_eq!(needs.iter().collect::<HashSet<_>>().len(), needs.len(), "{}: {needs:?}", spec.name);
        assert_eq!(needs.last(), Some(&Needs::Baseline), "{}", spec.name);
        assert!(
            spec.variants.iter().all(|variant| variant.name.starts_with(spec.name)),
            "{} has other files",
            spec.name
        );
    }
}

#[test]
fn every_kernel_has_a_check_with_faults() {
    let kernels: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
    let checked: Vec<&str> = CHECKS.iter().map(|check| check.kernel.name).collect();
    assert_eq!(checked, kernels);
    for check in CHECKS {
        assert!(!check.faults.is_empty(), "{} has no fault", check.kernel.name);
        for fault in check.faults {
            let is_stem = check.kernel.variants.iter().any(|variant| variant.name == fault.kernel);
            assert!(is_stem, "{fault:?} names no variant of {}", check.kernel.name);
        }
    }
}

fn baseline(spec: &KernelSpec) -> Variant {
    *spec.variants.last().expect("every kernel has a baseline variant")
}

/// What the reflection says of a declaration of `masked_dense_forward` that was changed.
fn complaints_of(change: impl FnOnce(&mut KernelSpec, &mut Variant)) -> String {
    let right = MaskedDenseForward::SPEC;
    let mut spec = KernelSpec { ..*right };
    let mut variant = baseline(right);
    change(&mut spec, &mut variant);
    mismatches(&spec, &variant, &[]).join("\n")
}

#[test]
fn wrong_declarations_are_noticed() {
    assert_eq!(complaints_of(|_, _| {}), "");
    let changed = |at: usize, change: fn(&mut Binding)| {
        let mut bindings = MaskedDenseForward::SPEC.bindings.to_vec();
        change(&mut bindings[at]);
        complaints_of(|spec, _| spec.bindings = bindings.leak())
    };
    for (complaint, expected) in [
        (complaints_of(|_, v| v.name = "dense"), "entry point"),
        (complaints_of(|_, v| v.workgroup = [64, 1, 1]), "workgroup size"),
        (complaints_of(|s, _| s.constants = &[&["N"]]), "0 constants given"),
        (complaints_of(|s, _| s.params = &[("batch", Scalar::U32), ("n_in", Scalar::U32)]), "uniform block"),
        (
            complaints_of(|s, _| s.params = &[("batch", Scalar::U32), ("n_in", Scalar::F32), ("n_out", Scalar::U32)]),
            "uniform block",
        ),
        (
            complaints_of(|s, _| s.params = &[("n_in", Scalar::U32), ("batch", Scalar::U32), ("n_out", Scalar::U32)]),
            "uniform block",
        ),
        (complaints_of(|s, _| s.bindings = &s.bindings[..4]), "number of bindings"),
        (changed(0, |binding| binding.name = "inputs"), "name of binding 1"),
        (changed(4, |binding| binding.access = Access::Read), "binding 5 is Storage"),
        (changed(1, |binding| binding.shape = "n_in, n_out"), "shape comment of binding 2"),
    ] {
        assert!(complaint.contains(expected), "`{complaint}` does not name {expected}");
    }
    let broken = |from: &str, to: &str| {
        let source = baseline(MaskedDenseForward::SPEC).source.replace(from, to);
        complaints_of(|_, variant| variant.source = source.leak())
    };
    for (complaint, expected) in [
        (broken("8, GROUP_ROWS)", "32, 32)"), "exceeds WebGPU's default limits"),
        (broken("@compute", "var<workgroup> a: array<f32, 4097>;\n@compute"), "16388 bytes of workgroup memory"),
        (broken("forward_tile(group, local)", "forward_tile(group, 1.5)"), "masked_dense_forward: "),
        (complaints_of(|_, v| v.forms = &[("visible", Form::Texture)]), "there is no `var<storage, read> visible"),
    ] {
        assert!(complaint.contains(expected), "`{complaint}` does not name {expected}");
    }
}

#[test]
fn a_kernel_without_uniforms_has_no_block() {
    assert_eq!(mismatches(CountSubmission::SPEC, &CountSubmission::SPEC.variants[0], &[]), [""; 0]);
}

#[test]
fn a_tour_of_the_bench_meets_every_kernel_and_writes_what_compiles() {
    let recipe = |name: &str| Config::from_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a recipe");
    let shape = SampleShape::Image { height: 8, width: 8, channels: 1 };
    let mut dense = recipe("configs/digits-made.toml");
    dense.model.hidden = vec![12, 12];
    let tour = Tour { dense: (dense, shape), image: (recipe("configs/digits.toml"), shape), count: 2 };
    let folder = tempfile::tempdir().expect("a folder");
    let shaders = write_shaders(&Gpu::noop(), &tour, folder.path()).expect("written");
    let text = std::fs::read_to_string(folder.path().join("kernels.json")).expect("written");
    let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let met: BTreeSet<&str> = rows.iter().filter_map(|row| row["kernel"].as_str()).collect();
    assert_eq!(met, ALL.iter().map(|spec| spec.name).collect::<BTreeSet<_>>());
    let files = stems(folder.path());
    assert_eq!(files.len(), shaders + 1, "{files:?}");
    for row in &rows {
        assert!(row["bytes"].as_u64() > Some(0), "{row}");
        let shaders = row["shaders"].as_object().expect("variants");
        assert!(shaders.contains_key("baseline"), "{row}");
        for name in shaders.values() {
            let path = folder.path().join(name.as_str().expect("a name"));
            let source = std::fs::read_to_string(path).expect("written");
            let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
            let kernel = row["kernel"].as_str().expect("a name");
            assert!(module.entry_points[0].name.starts_with(kernel), "{name}");
        }
    }
    // By hand: 12 units of degrees 1 + 63 k / 12 that see as many inputs, on batches of 64 in two parts (digits-made: 128).
    let first =
        |kernel: &str| rows.iter().find(|row| row["kernel"] == kernel && row["where"] == "dense: train").expect(kernel);
    let widths = [64, 12, 12, 64 * 16];
    let degrees = |layer: usize| -> Vec<u64> {
        match layer {
            0 => (1..=64).collect(),
            3 => (0..64 * 16).map(|unit| unit / 16).collect(),
            _ => (0..12).map(|k| 63 * k / 12 + 1).collect(),
        }
    };
    let seen = |layer: usize| -> u64 {
        let before = degrees(layer);
        degrees(layer + 1).iter().map(|own| before.iter().filter(|&degree| degree <= own).count() as u64).sum()
    };
    assert_eq!(degrees(3).len(), widths[3]);
    assert_eq!(first("masked_dense_forward")["flop"], 2 * 128 * seen(2));
    // Four operations of each unit for its activation.
    let flop: u64 = (0..2).map(|layer| 128 * (2 * seen(layer) + 4 * 12)).sum();
    assert_eq!(first("masked_hidden_forward")["flop"], flop);
}
