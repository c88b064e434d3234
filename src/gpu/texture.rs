//! Tensors as textures, for variants that bind them in that form.
//!
//! A software adapter loads vec4s of a buffer lane by lane and component by component, and texels whole. So a tensor is
//! copied into a texture before a dispatch that reads it many times: memory moves faster than kernels load it.

use super::Tensor;

/// Vec4s of a tensor in a row of a texture: as many bytes as copies want whole multiples of.
const ROW: u32 = 1024;
/// Texels behind each row that nobody uses. Matrices often have rows of a power of two of bytes, which compete for the same
/// places of a cache when they are read side by side; so do not the rows of a texture with a gap.
const GAP: u32 = 4;
/// WebGPU's default for the rows of a texture, and so 128 MiB for a tensor.
const MAX_ROWS: u32 = 8192;
const TEXEL_BYTES: u64 = 16;
/// Textures of one size that are kept, so that tensors which a submission reads twice are often copied once.
const KEPT: usize = 4;

/// WGSL for vec4 `index` of a tensor in a texture.
pub(super) fn load(name: &str, index: &str) -> String {
    format!("textureLoad({name}, vec2({index} % {ROW}u, {index} / {ROW}u))")
}

/// How a texture is bound.
pub(super) const BINDING: wgpu::BindingType = wgpu::BindingType::StorageTexture {
    access: wgpu::StorageTextureAccess::ReadOnly,
    format: wgpu::TextureFormat::Rgba32Float,
    view_dimension: wgpu::TextureViewDimension::D2,
};

/// Part of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Window {
    /// Whether a texture can hold it.
    pub(super) fn fits_texture(&self) -> bool {
        self.bytes <= u64::from(MAX_ROWS * ROW) * TEXEL_BYTES
    }

    fn overlaps(&self, tensor: &Tensor) -> bool {
        let ends_before = self.offset + self.bytes <= tensor.offset;
        let starts_behind = self.offset >= tensor.offset + tensor.bytes();
        self.buffer == tensor.buffer && !ends_before && !starts_behind
    }

    fn texels(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(TEXEL_BYTES)).expect("the variant was chosen because it fits")
    }

    fn rows(&self) -> u32 {
        self.texels().div_ceil(ROW)
    }
}

/// Textures, and what of the submission that is being encoded they hold.
#[derive(Debug, Default)]
pub(super) struct Textures {
    slots: Vec<Slot>,
    uses: u64,
}

#[derive(Debug)]
struct Slot {
    texture: wgpu::Texture,
    view: wgpu::TextureView,
    rows: u32,
    holds: Option<Window>,
    last_use: u64,
}

impl Textures {
    /// Ends a submission: what happens to the tensors until the next one is not known.
    pub(super) fn forget(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.holds = None);
    }

    /// Takes note of a tensor that is written.
    pub(super) fn wrote(&mut self, tensor: &Tensor) {
        let stale = |slot: &&mut Slot| slot.holds.as_ref().is_some_and(|window| window.overlaps(tensor));
        self.slots.iter_mut().filter(stale).for_each(|slot| slot.holds = None);
    }

    /// The texture that holds a window, if one does.
    pub(super) fn find(&mut self, window: &Window) -> Option<wgpu::TextureView> {
        self.uses += 1;
        let slot = self.slots.iter_mut().find(|slot| slot.holds.as_ref() == Some(window))?;
        slot.last_use = self.uses;
        Some(slot.view.clone())
    }

    /// Copies a window into a texture: a new one, or the one of its size that was longest out of use. At least so many as
    /// [`KEPT`] different windows can be had after each other.
    pub(super) fn copy(&mut self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder, window: Window) {
        let rows = window.rows();
        let of_size = || (0..self.slots.len()).filter(|&at| self.slots[at].rows == rows);
        let at = match of_size().find(|&at| self.slots[at].holds.is_none()) {
            Some(free) => free,
            None if of_size().count() < KEPT => {
                self.slots.push(Slot::new(device, rows));
                self.slots.len() - 1
            }
            None => of_size().min_by_key(|&at| self.slots[at].last_use).expect("there are several"),
        };
        self.uses += 1;
        let slot = &mut self.slots[at];
        slot.fill(encoder, &window);
        (slot.holds, slot.last_use) = (Some(window), self.uses);
    }
}

impl Slot {
    fn new(device: &wgpu::Device, rows: u32) -> Self {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("tensor"),
            size: wgpu::Extent3d { width: ROW + GAP, height: rows, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Float,
            usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        Self { texture, view, rows, holds: None, last_use: 0 }
    }

    /// Whole rows at once, then what is left.
    fn fill(&self, encoder: &mut wgpu::CommandEncoder, window: &Window) {
        let (whole, rest) = (window.texels() / ROW, window.texels() % ROW);
        let row_bytes = ROW * TEXEL_BYTES as u32;
        for (y, width, height) in [(0, ROW, whole), (whole, rest, 1)] {
            if width == 0 || height == 0 {
                continue;
            }
            let offset = window.offset + u64::from(y) * u64::from(row_bytes);
            let layout = wgpu::TexelCopyBufferLayout { offset, bytes_per_row: Some(row_bytes), rows_per_image: None };
            let from = wgpu::TexelCopyBufferInfo { buffer: &window.buffer, layout };
            let to =
                wgpu::TexelCopyTextureInfo { origin: wgpu::Origin3d { x: 0, y, z: 0 }, ..self.texture.as_image_copy() };
            encoder.copy_buffer_to_texture(from, to, wgpu::Extent3d { width, height, depth_or_array_layers: 1 });
        }
    }
}
