//! One panel of a plot, in pixels: frame, ticks, dots, bars and steps.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{Axis, Bins};
use super::{AXIS_COLOR, Canvas, Drawn, font};

/// Size of the labels of ticks.
pub(super) const TICK_FONT: u32 = 12;
const TICK: i32 = 4;
/// Lines over bars must stand out.
const BAR_OPACITY: f64 = 0.45;

/// A rectangle of pixels that shows the values of one axis across.
pub(super) struct Panel<'p, 'a> {
    /// Where it is drawn.
    pub(super) canvas: &'p Canvas<'a>,
    /// Left, top, right and bottom pixel of the frame.
    pub(super) frame: [i32; 4],
    /// What is shown from left to right.
    pub(super) x: &'p Axis,
    /// What is shown from the bottom up.
    pub(super) y: Range<f64>,
}

/// Points of one set, to be drawn in its colour.
pub(super) struct Dots<'d> {
    /// Places in the units of the axes; those beyond the frame are left out.
    pub(super) points: &'d [[f64; 2]],
    /// Colour.
    pub(super) color: RGBColor,
    /// Opacity where any number of them lie on each other: where two sets do, a third colour says so.
    pub(super) cover: f32,
}

impl Panel<'_, '_> {
    /// Pixels of a value, from the left edge of the first pixel.
    fn across(&self, value: f64) -> f64 {
        let [left, _, right, _] = self.frame;
        (value - self.x.range.start) / (self.x.range.end - self.x.range.start) * f64::from(right - left)
    }

    /// Pixels of a value, from the upper edge of the first pixel.
    fn down(&self, value: f64) -> f64 {
        let [_, top, _, bottom] = self.frame;
        (self.y.end - value) / (self.y.end - self.y.start) * f64::from(bottom - top)
    }

    /// Pixel on the canvas; values beyond the frame become its edge.
    fn pixel(&self, x: f64, y: f64) -> (i32, i32) {
        let [left, top, right, bottom] = self.frame;
        let across = self.across(x).clamp(0.0, f64::from(right - left));
        let down = self.down(y).clamp(0.0, f64::from(bottom - top));
        (left + across.round() as i32, top + down.round() as i32)
    }

    /// The frame, over what it holds.
    pub(super) fn draw_frame(&self) -> Drawn {
        let [left, top, right, bottom] = self.frame;
        self.canvas.draw(&Rectangle::new([(left, top), (right, bottom)], AXIS_COLOR.mix(0.6)))?;
        Ok(())
    }

    /// Ticks under the frame with their labels.
    pub(super) fn draw_x_ticks(&self) -> Drawn {
        let bottom = self.frame[3];
        for (value, label) in &self.x.ticks {
            let (x, _) = self.pixel(*value, self.y.start);
            self.canvas.draw(&PathElement::new([(x, bottom), (x, bottom + TICK)], AXIS_COLOR))?;
            write(self.canvas, label, (x, bottom + TICK + 3), TICK_FONT, (HPos::Center, VPos::Top))?;
        }
        Ok(())
    }

    /// Ticks to the left of the frame with their labels.
    pub(super) fn draw_y_ticks(&self, axis: &Axis) -> Drawn {
        let left = self.frame[0];
        for (value, label) in &axis.ticks {
            let (_, y) = self.pixel(self.x.range.start, *value);
            self.canvas.draw(&PathElement::new([(left - TICK, y), (left, y)], AXIS_COLOR))?;
            write(self.canvas, label, (left - TICK - 4, y), TICK_FONT, (HPos::Right, VPos::Center))?;
        }
        Ok(())
    }

    /// Sets of dots, each over the ones before.
    pub(super) fn draw_dots(&self, sets: &[Dots<'_>]) -> Drawn {
        let [left, top, right, bottom] = self.frame;
        let size = [right - left, bottom - top].map(|pixels| pixels as usize);
        let mut picture = vec![[255.0f32; 3]; size[0] * size[1]];
        for set in sets {
            // The more points there are, the smaller and fainter each: dense parts stay darker than thin ones.
            let count = set.points.len() as f32;
            let (opacity, radius) =
                ((1300.0 / count).clamp(0.12, 0.8), (0.3 * size[0] as f32 / count.sqrt()).clamp(1.2, 2.5));
            let mut clear = vec![1.0f32; picture.len()];
            for &[x, y] in set.points {
                let [x, y] = [self.across(x), self.down(y)];
                if (0.0..=size[0] as f64).contains(&x) && (0.0..=size[1] as f64).contains(&y) {
                    dot(&mut clear, size, [x as f32, y as f32], radius, opacity);
                }
            }
            let color = [set.color.0, set.color.1, set.color.2].map(f32::from);
            for (pixel, clear) in picture.iter_mut().zip(&clear) {
                let cover = set.cover * (1.0 - clear);
                pixel.iter_mut().zip(color).for_each(|(old, new)| *old += cover * (new - *old));
            }
        }
        for (i, pixel) in picture.iter().enumerate().filter(|(_, pixel)| pixel.iter().any(|&value| value < 254.5)) {
            let [r, g, b] = pixel.map(|value| value.round() as u8);
            self.canvas.draw_pixel((left + (i % size[0]) as i32, top + (i / size[0]) as i32), &RGBColor(r, g, b))?;
        }
        Ok(())
    }

    /// A histogram as an area.
    pub(super) fn draw_bars(&self, bins: &Bins, densities: &[f64], color: RGBColor) -> Drawn {
        // Mixed with white beforehand: where two bars share a row of pixels it must not be darker.
        let light = [color.0, color.1, color.2].map(|value| (255.0 - BAR_OPACITY * (255.0 - f64::from(value))) as u8);
        let style = RGBColor(light[0], light[1], light[2]).filled();
        for (cell, &density) in densities.iter().enumerate().filter(|(_, density)| **density > 0.0) {
            let Range { start, end } = bins.edges(cell);
            let corners = [self.pixel(start, density), self.pixel(end, 0.0)];
            self.canvas.draw(&Rectangle::new(corners, style))?;
        }
        Ok(())
    }

    /// A histogram as the line above its cells.
    pub(super) fn draw_steps(&self, bins: &Bins, densities: &[f64], color: RGBColor) -> Drawn {
        let corners = densities.iter().enumerate().flat_map(|(cell, &density)| {
            let Range { start, end } = bins.edges(cell);
            [self.pixel(start, density), self.pixel(end, density)]
        });
        let ends = [bins.edges(0).start, bins.edges(densities.len() - 1).end].map(|edge| self.pixel(edge, 0.0));
        let line: Vec<_> = std::iter::once(ends[0]).chain(corners).chain([ends[1]]).collect();
        self.canvas.draw(&PathElement::new(line, color.stroke_width(2)))?;
        Ok(())
    }

    /// A function's curve.
    pub(super) fn draw_curve(&self, function: &dyn Fn(f64) -> f64, color: RGBColor) -> Drawn {
        let [left, _, right, _] = self.frame;
        let steps = f64::from(2 * (right - left));
        let Range { start, end } = self.x.range;
        let x = (0..=steps as u32).map(|i| start + f64::from(i) / steps * (end - start));
        let line: Vec<_> =
            x.map(|x| (x, function(x))).filter(|(_, y)| y.is_finite()).map(|(x, y)| self.pixel(x, y)).collect();
        self.canvas.draw(&PathElement::new(line, color.stroke_width(2)))?;
        Ok(())
    }
}

/// Lets a round dot take away its part of what is `clear` (height, width); its rim is smooth.
fn dot(clear: &mut [f32], [width, height]: [usize; 2], [x, y]: [f32; 2], radius: f32, opacity: f32) {
    let pixels = |centre: f32, most: usize| {
        let first = (centre - radius - 0.5).floor().max(0.0) as usize;
        first..((centre + radius + 0.5).ceil() as usize).min(most)
    };
    for row in pixels(y, height) {
        for column in pixels(x, width) {
            let away = (column as f32 + 0.5 - x).hypot(row as f32 + 0.5 - y);
            clear[row * width + column] *= 1.0 - opacity * (radius + 0.5 - away).clamp(0.0, 1.0);
        }
    }
}

/// Writes one line of text; `place` is the point of it that the two positions name.
pub(super) fn write(
    canvas: &Canvas<'_>,
    text: &str,
    place: (i32, i32),
    size: u32,
    (across, down): (HPos, VPos),
) -> Drawn {
    canvas.draw(&Text::new(text.to_owned(), place, font(size).pos(Pos::new(across, down))))?;
    Ok(())
}

/// Writes one line of text from the bottom up, around its centre.
pub(super) fn write_upwards(canvas: &Canvas<'_>, text: &str, place: (i32, i32), size: u32) -> Drawn {
    let style = font(size).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Center, VPos::Center));
    canvas.draw(&Text::new(text.to_owned(), place, style))?;
    Ok(())
}

/// Pixels that a text takes.
pub(super) fn width_of(text: &str, size: u32) -> i32 {
    font(size).font.box_size(text).map_or(0, |(width, _)| width as i32)
}

/// A text and what must follow it, cut so that both have room on `pixels`.
pub(super) fn fitted(text: &str, suffix: &str, size: u32, pixels: i32) -> String {
    let whole = format!("{text}{suffix}");
    if width_of(&whole, size) <= pixels {
        return whole;
    }
    let letters = text.char_indices().map(|(end, _)| end).rev();
    let mut cuts = letters.map(|end| format!("{}..{suffix}", text[..end].trim_end()));
    cuts.find(|cut| width_of(cut, size) <= pixels).unwrap_or_else(|| format!("..{suffix}"))
}
