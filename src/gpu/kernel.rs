//! Declaring a kernel once: from [`kernel!`](crate::kernel) come its uniform block, its bind group layout, an argument
//! struct with named tensors, and the checks before each dispatch. `gpu::reflect` holds the WGSL against it.

use std::collections::BTreeMap;

use glam::UVec3;
use serde::{Deserialize, Serialize};

use super::Tensor;
use super::source::{Form, compose};

/// How a kernel uses a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Overwritten, or read and updated.
    ReadWrite,
}

/// A tensor argument as declared.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Name in WGSL and in the argument struct.
    pub name: &'static str,
    /// Read or read-write.
    pub access: Access,
    /// The shape in the kernel's letters, as in the WGSL comment: `batch, n_in`.
    pub shape: &'static str,
}

/// What an adapter must offer for a variant; the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// WebGPU's default limits, nothing else.
    Baseline,
    /// The same of a hardware adapter, whose threads share what they load through a workgroup's memory. Software adapters run
    /// these where they are pinned: their workgroup memory is as slow as all other.
    Workgroup,
    /// A software adapter with subgroups of exactly eight lanes: lanes share what they load by shuffles.
    CpuSubgroups,
    /// The same, and tensors that fit textures: a software adapter loads a texel four times as fast as a vec4 of a buffer.
    CpuTextures,
    /// The same, and a network that is small enough. The weights, the tensor `net`, come in a uniform buffer of 64-bit words,
    /// and activations stay in private memory.
    CpuPrivate,
}

impl Needs {
    /// All of them, the most first.
    pub const ALL: [Self; 5] =
        [Self::CpuPrivate, Self::CpuTextures, Self::CpuSubgroups, Self::Workgroup, Self::Baseline];
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::Workgroup => "workgroup",
            Self::CpuSubgroups => "cpu-subgroups",
            Self::CpuTextures => "cpu-textures",
            Self::CpuPrivate => "cpu-private",
        })
    }
}

/// What was measured to be fastest on an adapter. Nothing but speed depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Of kernels, by name, the variant; where the adapter does not offer that, it has no say.
    pub variants: BTreeMap<String, Needs>,
    /// Workgroups that keep the whole adapter busy.
    pub parallel_groups: Option<usize>,
}

/// The constant that is 0 where a score network is too large for threads' own memory, else its vec4s.
const NET_QUADS: &str = "NET_QUADS";

/// vec4s in the memory of a workgroup: WebGPU's default, 16 KiB.
const STAGED_QUADS: u32 = 1024;

/// One implementation of a kernel: a WGSL file, composed for what the adapter offers.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// File stem and entry point.
    pub name: &'static str,
    /// WGSL before composition.
    pub source: &'static str,
    /// What the adapter must offer.
    pub needs: Needs,
    /// Workgroup size.
    pub workgroup: [u32; 3],
    /// Rows and columns that one workgroup computes; what it means is the kernel's affair.
    pub tile: [u32; 2],
    /// Tensors that are bound in another form than a storage buffer.
    pub forms: &'static [(&'static str, Form)],
    /// Constants with the largest value that it serves.
    pub most: &'static [(&'static str, u32)],
}

impl Variant {
    /// How it binds a tensor.
    pub fn form(&self, tensor: &str) -> Form {
        self.forms.iter().find(|(name, _)| *name == tensor).map_or(Form::Storage, |(_, form)| *form)
    }

    /// Whether it keeps the score network in threads' own memory, for which that must be small: the kernel's constant
    /// NET_QUADS is not 0.
    pub fn wants_small_net(&self, spec: &KernelSpec) -> bool {
        let has_net = || spec.constant_names().any(|name| name == NET_QUADS);
        self.needs == Needs::CpuPrivate || self.needs == Needs::Workgroup && has_net()
    }

    /// Whether it serves these values of the constants.
    pub fn serves(&self, spec: &KernelSpec, constants: &[u32]) -> bool {
        let value = |wanted: &str| {
            spec.constant_names().zip(constants).find(|(name, _)| *name == wanted).map(|(_, &value)| value)
        };
        let is_small = value(NET_QUADS).is_some_and(|quads| quads > 0);
        let is_within = |(name, most): &(&str, u32)| value(name).is_none_or(|value| value <= *most);
        (is_small || !self.wants_small_net(spec)) && self.most.iter().all(is_within)
    }

    /// Neighbouring threads that share what they load.
    pub fn lanes(&self) -> u32 {
        match self.needs {
            Needs::Baseline | Needs::Workgroup => 1,
            Needs::CpuSubgroups | Needs::CpuTextures | Needs::CpuPrivate => 8,
        }
    }

    /// What the threads of a workgroup stage and share of a matrix product, see `shaders/shared/tile_product.wgsl`: threads
    /// side by side, `GROUP_COLUMNS`, and slices of threads that split the sum, `SLICES`, for tiles of `TILE_COLUMNS`; vec4s
    /// of terms in a block of both factors, `BLOCK_QUADS`; vec4s of each factor that a thread fetches, `LINE_FETCHES` and
    /// `COLUMN_FETCHES`.
    fn staging(&self) -> [(&'static str, u32); 6] {
        let [lines, columns] = self.tile;
        let threads: u32 = self.workgroup.iter().product();
        // The largest power of two for which both fit.
        let block_quads = 1 << (STAGED_QUADS / (lines + columns)).max(1).ilog2();
        [
            ("GROUP_COLUMNS", self.workgroup[0]),
            ("SLICES", self.workgroup[2]),
            ("TILE_COLUMNS", columns),
            ("BLOCK_QUADS", block_quads),
            ("LINE_FETCHES", lines * block_quads / threads),
            ("COLUMN_FETCHES", columns * block_quads / threads),
        ]
    }

    /// The WGSL that the compiler sees, for values of the kernel's constants. More constants say what the tile is: its rows,
    /// `TILE_LINES`, and what one thread owns of it: `ROWS`, and `UNITS` columns, where eight threads stand side by side, or
    /// `QUADS` vec4s of columns; how many of these share what they load, `LANES`; and how many of its lines a thread works on
    /// at a time where all threads work on the same ones, `BLOCK`. Variants that stage tiles in a workgroup's memory get more
    /// of them; `staging` says which.
    /// `FIRST_UNIFORM` becomes the name of the first uniform.
    ///
    /// # Errors
    /// What [`compose`] refuses.
    pub fn compose(&self, spec: &KernelSpec, constants: &[u32]) -> Result<String, String> {
        let mut named: Vec<(&str, u32)> = spec.constant_names().zip(constants.iter().copied()).collect();
        named.push(("TILE_LINES", self.tile[0]));
        named.push(("UNITS", self.tile[1].div_ceil(8)));
        named.push(("GROUP_ROWS", self.workgroup[1]));
        named.push(("ROWS", self.tile[0].div_ceil(self.workgroup[1])));
        named.push(("QUADS", self.tile[1].div_ceil(4 * self.workgroup[0])));
        named.push(("LANES", self.lanes()));
        named.push(("BLOCK", self.tile[0].min(4)));
        if self.needs == Needs::Workgroup {
            named.extend(self.staging());
        }
        let renamed: &[(&str, &str)] = match self.needs {
            Needs::Baseline => &[],
            Needs::Workgroup => &[
                ("score_net", "score_net_workgroup"),
                ("point_scores", "point_scores_workgroup"),
                ("grid_points", "grid_points_workgroup"),
                ("made_step", "made_step_workgroup"),
            ],
            Needs::CpuSubgroups | Needs::CpuTextures => &[("broadcast", "broadcast_shuffle")],
            Needs::CpuPrivate => &[("broadcast", "broadcast_shuffle"), ("score_net", "score_net_private")],
        };
        let first_uniform = spec.params.first().map_or("", |(name, _)| name);
        Ok(compose(self.source, &named, renamed, self.forms)?.replace("FIRST_UNIFORM", first_uniform))
    }
}

/// Type of a uniform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Unsigned integer.
    U32,
    /// Float.
    F32,
}

/// A kernel as declared.
#[derive(Debug)]
pub struct KernelSpec {
    /// Name of the baseline variant.
    pub name: &'static str,
    /// Fastest first; the last one is the baseline.
    pub variants: &'static [Variant],
    /// Constants that shape the code, in groups: `NAME`s that the composed WGSL starts with. One pipeline for each set of values.
    pub constants: &'static [&'static [&'static str]],
    /// Uniforms in order.
    pub params: &'static [(&'static str, Scalar)],
    /// Tensors in order; their bindings are 1, 2, ...
    pub bindings: &'static [Binding],
}

impl KernelSpec {
    /// Names of all constants in order.
    pub fn constant_names(&self) -> impl Iterator<Item = &'static str> {
        self.constants.iter().copied().flatten().copied()
    }
}

/// Constants that kernels have in common.
pub trait ConstantGroup: Copy {
    /// Their names in WGSL.
    const NAMES: &'static [&'static str];
    /// Their values in the same order.
    fn values(&self) -> Vec<u32>;
}

/// A tensor given for a binding.
#[derive(Debug)]
pub struct Argument<'a> {
    /// Name of the binding.
    pub name: &'static str,
    /// What was given.
    pub tensor: &'a Tensor,
    /// Shape it must have.
    pub expected: Vec<usize>,
}

/// A kernel with its arguments, ready for [`Recorder::run`](super::Recorder::run).
pub trait Kernel {
    /// The declaration.
    const SPEC: &'static KernelSpec;
    /// Values of the constants.
    fn constants(&self) -> Vec<u32>;
    /// Uniforms as words.
    fn words(&self) -> Vec<u32>;
    /// Tensors in binding order.
    fn arguments(&self) -> Vec<Argument<'_>>;
    /// Workgroups for a variant's tile.
    fn grid(&self, tile: [u32; 2]) -> UVec3;
    /// Upper bound of the loop iterations of one invocation, all loops added up (llvmpipe ends them at 65,535).
    fn iterations(&self) -> u64;
}

/// What follows the last folder of a path, for the macro.
#[doc(hidden)]
pub const fn stem(path: &'static str) -> &'static str {
    let mut at = path.len();
    while at > 0 && path.as_bytes()[at - 1] != b'/' {
        at -= 1;
    }
    path.split_at(at).1
}

/// Uniform values, for the macro.
#[doc(hidden)]
pub trait Uniform: Copy {
    const KIND: Scalar;
    fn word(self) -> u32;
}

impl Uniform for u32 {
    const KIND: Scalar = Scalar::U32;
    fn word(self) -> u32 {
        self
    }
}

impl Uniform for f32 {
    const KIND: Scalar = Scalar::F32;
    fn word(self) -> u32 {
        self.to_bits()
    }
}

/// Declares a kernel.
///
/// `variants` lists WGSL files (without their ending, below `shaders/`; the stems are entry points too), fastest first and the baseline last; `uniforms` and
/// `textures` name the tensors that one binds as such. Shapes are written in the uniforms' names. `constants` are compiled
/// in; `host` values only serve the bound of the loop iterations. Bindings: 0 is the uniform block, then `read`, then `write` in order.
#[macro_export]
macro_rules! kernel {
    (
        $(#[$doc:meta])*
        pub struct $Name:ident;
        variants { $(
            $file:literal: $needs:ident, workgroup $workgroup:expr, tile $tile:expr
            $(, uniforms [$($uniform:ident),+])? $(, textures [$($texture:ident),+])? $(, most [$($limited:literal: $most:expr),+])?;
        )+ }
        $(constants { $($(#[$cdoc:meta])* $constant:ident as $CONSTANT:literal),* $(,)? })?
        $(shared $group:ident: $Group:ty;)?
        $(host { $($(#[$hdoc:meta])* $host:ident),* $(,)? })?
        params { $($(#[$pdoc:meta])* $param:ident: $kind:ident),* $(,)? }
        read { $($(#[$idoc:meta])* $input:ident: ($($idim:expr),+)),* $(,)? }
        write { $($(#[$odoc:meta])* $output:ident: ($($odim:expr),+)),* $(,)? }
        grid |$tiles:ident| $grid:expr;
        iterations $iterations:expr;
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $Name<'a> {
            $($($(#[$cdoc])* pub $constant: u32,)*)?
            $(#[doc = "Constants in common with other kernels."] pub $group: $Group,)?
            $($($(#[$hdoc])* pub $host: u64,)*)?
            $($(#[$pdoc])* pub $param: $kind,)*
            $($(#[$idoc])* #[doc = concat!("\nRead, (", stringify!($($idim),+), ").")] pub $input: &'a $crate::gpu::Tensor,)*
            $($(#[$odoc])* #[doc = concat!("\nWritten, (", stringify!($($odim),+), ").")] pub $output: &'a $crate::gpu::Tensor,)*
        }

        impl $crate::gpu::Kernel for $Name<'_> {
            const SPEC: &'static $crate::gpu::KernelSpec = &$crate::gpu::KernelSpec {
                name: {
                    let files = [$($file),+];
                    $crate::gpu::stem(files[files.len() - 1])
                },
                variants: &[$($crate::gpu::Variant {
                    name: $crate::gpu::stem($file),
                    source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file, ".wgsl")),
                    needs: $crate::gpu::Needs::$needs,
                    workgroup: $workgroup,
                    tile: $tile,
                    forms: &[
                        $($((stringify!($uniform), $crate::gpu::Form::Uniform),)+)?
                        $($((stringify!($texture), $crate::gpu::Form::Texture),)+)?
                    ],
                    most: &[$($(($limited, $most)),+)?],
                }),+],
                constants: &[&[$($($CONSTANT),*)?], $(<$Group as $crate::gpu::ConstantGroup>::NAMES)?],
                params: &[$((stringify!($param), <$kind as $crate::gpu::Uniform>::KIND)),*],
                bindings: &[
                    $($crate::gpu::Binding {
                        name: stringify!($input),
                        access: $crate::gpu::Access::Read,
                        shape: stringify!($($idim),+),
                    },)*
                    $($crate::gpu::Binding {
                        name: stringify!($output),
                        access: $crate::gpu::Access::ReadWrite,
                        shape: stringify!($($odim),+),
                    },)*
                ],
            };

            fn constants(&self) -> Vec<u32> {
                let own = [$($(self.$constant),*)?];
                let groups: &[Vec<u32>] = &[$($crate::gpu::ConstantGroup::values(&self.$group))?];
                own.into_iter().chain(groups.iter().flatten().copied()).collect()
            }

            fn words(&self) -> Vec<u32> {
                vec![$($crate::gpu::Uniform::word(self.$param)),*]
            }

            #[allow(unused_variables, reason = "not every uniform is a size")]
            fn arguments(&self) -> Vec<$crate::gpu::Argument<'_>> {
                $(let $param = self.$param;)*
                vec![
                    $($crate::gpu::Argument {
                        name: stringify!($input),
                        tensor: self.$input,
                        expected: vec![$(($idim) as usize),+],
                    },)*
                    $($crate::gpu::Argument {
                        name: stringify!($output),
                        tensor: self.$output,
                        expected: vec![$(($odim) as usize),+],
                    },)*
                ]
            }

            #[allow(unused_variables, reason = "a grid may depend on few of them")]
            fn grid(&self, $tiles: [u32; 2]) -> $crate::gpu::UVec3 {
                $(let $param = self.$param;)*
                $crate::gpu::UVec3::from_array($grid)
            }

            #[allow(unused_variables, reason = "a bound may depend on few of them")]
            fn iterations(&self) -> u64 {
                $($(let $host = self.$host;)*)?
                $(let $param = u64::from($crate::gpu::Uniform::word(self.$param));)*
                $iterations
            }
        }
    };
}
