//! What naga says of the WGSL, held against the declarations. Needs no adapter.

use naga::back::{hlsl, msl, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, ImageClass, ImageDimension, Module, ScalarKind, StorageAccess, StorageFormat,
    TypeInner,
};

use super::kernel::{Access, KernelSpec, Needs, Scalar, Variant};
use super::source::Form;

/// Storage buffers of a kernel: WebGPU allows eight, and wgpu takes one of them on Metal for the lengths of arrays.
const MAX_STORAGE_BUFFERS: usize = 7;
/// WebGPU's default.
const MAX_STORAGE_TEXTURES: usize = 4;
/// WebGPU's defaults, which wgpu does not check for workgroup memory.
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
const MAX_WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];
const MAX_INVOCATIONS: u32 = 256;

/// Where a variant's WGSL, with these constants, differs from its declaration or from what every adapter must accept:
/// one line each, empty if all is well.
///
/// Looked at: that naga parses and validates it and translates it to SPIR-V, Metal's and Direct3D's languages; the entry
/// point, the workgroup, the uniform block, every binding's place, name, access and shape comment; WebGPU's default
/// limits.
pub fn mismatches(spec: &KernelSpec, variant: &Variant, constants: &[u32]) -> Vec<String> {
    let (module, info, source) = match parse(spec, variant, constants) {
        Ok(parsed) => parsed,
        Err(complaint) => return vec![format!("{}: {complaint}", variant.name)],
    };
    let mut found = Vec::new();
    entry_point(&module, variant, &mut found);
    uniforms(&module, spec, &mut found);
    bindings(&module, &source, spec, variant, &mut found);
    workgroup_memory(&module, &mut found);
    translations(&module, &info, variant, &mut found);
    found.into_iter().map(|line| format!("{}: {line}", variant.name)).collect()
}

/// The module with its composed source.
fn parse(spec: &KernelSpec, variant: &Variant, constants: &[u32]) -> Result<(Module, ModuleInfo, String), String> {
    let names: Vec<_> = spec.constant_names().collect();
    if constants.len() != names.len() {
        return Err(format!("{} constants given, {names:?} declared", constants.len()));
    }
    let source = variant.compose(spec, constants)?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|error| error.emit_to_string(&source))?;
    let capabilities = match variant.needs {
        Needs::Baseline | Needs::Workgroup => Capabilities::empty(),
        Needs::CpuSubgroups | Needs::CpuTextures => Capabilities::SUBGROUP,
        Needs::CpuPrivate => Capabilities::SUBGROUP | Capabilities::SHADER_INT64,
    };
    let validated = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
    let info = validated.map_err(|error| error.emit_to_string(&source))?;
    Ok((module, info, source))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, wgsl: T, declared: T, found: &mut Vec<String>) {
    if wgsl != declared {
        found.push(format!("{what} is {wgsl:?}, declared {declared:?}"));
    }
}

fn entry_point(module: &Module, variant: &Variant, found: &mut Vec<String>) {
    let names: Vec<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    expect("entry point", names, vec![variant.name], found);
    for entry in &module.entry_points {
        expect("workgroup size", entry.workgroup_size, variant.workgroup, found);
        let too_long = entry.workgroup_size.iter().zip(MAX_WORKGROUP_SIZE).any(|(&size, limit)| size > limit);
        if too_long || entry.workgroup_size.iter().product::<u32>() > MAX_INVOCATIONS {
            found.push(format!("workgroup {:?} exceeds WebGPU's default limits", entry.workgroup_size));
        }
    }
}

fn bound(module: &Module, binding: u32) -> Option<&GlobalVariable> {
    let here = |variable: &&GlobalVariable| {
        variable.binding.as_ref().is_some_and(|place| place.group == 0 && place.binding == binding)
    };
    module.global_variables.iter().map(|(_, variable)| variable).find(here)
}

/// Names, types and offsets of the members of binding 0.
fn uniforms(module: &Module, spec: &KernelSpec, found: &mut Vec<String>) {
    let declared: Vec<_> =
        spec.params.iter().zip(0..).map(|(&(name, kind), index)| (Some(name), Some(kind), 4 * index)).collect();
    let wgsl = match bound(module, 0) {
        None => Vec::new(),
        Some(variable) => {
            expect("binding 0", variable.space, AddressSpace::Uniform, found);
            match &module.types[variable.ty].inner {
                TypeInner::Struct { members, .. } => members
                    .iter()
                    .map(|member| (member.name.as_deref(), scalar(&module.types[member.ty].inner), member.offset))
                    .collect(),
                other => return found.push(format!("binding 0 is {other:?}, no struct")),
            }
        }
    };
    expect("uniform block", wgsl, declared, found);
}

fn scalar(ty: &TypeInner) -> Option<Scalar> {
    match ty {
        TypeInner::Scalar(scalar) if scalar.kind == ScalarKind::Uint && scalar.width == 4 => Some(Scalar::U32),
        TypeInner::Scalar(scalar) if scalar.kind == ScalarKind::Float && scalar.width == 4 => Some(Scalar::F32),
        _ => None,
    }
}

fn bindings(module: &Module, source: &str, spec: &KernelSpec, variant: &Variant, found: &mut Vec<String>) {
    let bound_in_all = module.global_variables.iter().filter(|(_, variable)| variable.binding.is_some()).count();
    let declared_in_all = spec.bindings.len() + usize::from(!spec.params.is_empty());
    expect("number of bindings", bound_in_all, declared_in_all, found);
    if spec.bindings.len() > MAX_STORAGE_BUFFERS {
        found.push(format!("{} storage buffers, at most {MAX_STORAGE_BUFFERS}", spec.bindings.len()));
    }
    let textures = variant.forms.iter().filter(|(_, form)| *form == Form::Texture).count();
    if textures > MAX_STORAGE_TEXTURES {
        found.push(format!("{textures} storage textures, at most {MAX_STORAGE_TEXTURES}"));
    }
    for (declared, binding) in spec.bindings.iter().zip(1..) {
        let Some(variable) = bound(module, binding) else {
            found.push(format!("binding {binding} ({}) is absent", declared.name));
            continue;
        };
        let access = match declared.access {
            Access::Read => StorageAccess::LOAD,
            Access::ReadWrite => StorageAccess::LOAD | StorageAccess::STORE,
        };
        expect(&format!("name of binding {binding}"), variable.name.as_deref(), Some(declared.name), found);
        let space = match variant.form(declared.name) {
            Form::Storage => AddressSpace::Storage { access },
            Form::Uniform => AddressSpace::Uniform,
            Form::Texture => {
                expect(&format!("type of binding {binding}"), &module.types[variable.ty].inner, &READ_TEXTURE, found);
                AddressSpace::Handle
            }
        };
        expect(&format!("binding {binding}"), variable.space, space, found);
        let shape = shape_comment(source, binding);
        let of_words = |text: &str| text.split_whitespace().collect::<String>();
        expect(
            &format!("shape comment of binding {binding}"),
            shape.map(of_words),
            Some(of_words(declared.shape)),
            found,
        );
    }
}

/// `texture_storage_2d<rgba32float, read>`
const READ_TEXTURE: TypeInner = TypeInner::Image {
    dim: ImageDimension::D2,
    arrayed: false,
    class: ImageClass::Storage { format: StorageFormat::Rgba32Float, access: StorageAccess::LOAD },
};

/// What stands in `// (...)` behind a binding.
fn shape_comment(source: &str, binding: u32) -> Option<&str> {
    let place = format!("@binding({binding}) ");
    let line = source.lines().find(|line| line.contains(&place))?;
    line.split_once("// (")?.1.strip_suffix(')')
}

fn workgroup_memory(module: &Module, found: &mut Vec<String>) {
    let mut layouter = Layouter::default();
    if let Err(error) = layouter.update(module.to_ctx()) {
        return found.push(format!("no layout: {error}"));
    }
    let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, variable)| layouter[variable.ty].to_stride()).sum();
    if bytes > MAX_WORKGROUP_BYTES {
        found.push(format!("{bytes} bytes of workgroup memory, at most {MAX_WORKGROUP_BYTES}"));
    }
}

/// Subgroup operations came with SPIR-V 1.3, Metal 2.1 and Direct3D's shader model 6.0.
fn translations(module: &Module, info: &ModuleInfo, variant: &Variant, found: &mut Vec<String>) {
    let entry = (naga::ShaderStage::Compute, variant.name.to_owned());
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let pipeline = spv::PipelineOptions { shader_stage: entry.0, entry_point: entry.1.clone() };
    if let Err(error) = spv::write_vec(module, info, &options, Some(&pipeline)) {
        found.push(format!("no SPIR-V: {error}"));
    }
    let options = msl::Options { lang_version: (2, 1), ..msl::Options::default() };
    let pipeline = msl::PipelineOptions { entry_point: Some(entry.clone()), ..msl::PipelineOptions::default() };
    if let Err(error) = msl::write_string(module, info, &options, &pipeline) {
        found.push(format!("no Metal code: {error}"));
    }
    let shader_model = match variant.needs {
        Needs::Baseline | Needs::Workgroup => hlsl::ShaderModel::V5_1,
        Needs::CpuSubgroups | Needs::CpuTextures | Needs::CpuPrivate => hlsl::ShaderModel::V6_0,
    };
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some(entry) };
    let mut text = String::new();
    if let Err(error) = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None) {
        found.push(format!("no Direct3D code: {error}"));
    }
}
