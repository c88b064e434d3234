//! Composing WGSL: `//#include NAME` and `//#for v in a..b` ... `//#end`.
//!
//! Registers cannot be indexed at run time, so register tiles are written once and repeated: between `//#for r in 0..8`
//! and `//#end` every `{r}` becomes the number, and `{2r}`, `{4r+3}`, `{r/4}`, `{r%4}` what they say; `{ROWS}` becomes the
//! value of a constant everywhere. Loops nest; their end may be a constant (`QUADS_{r}` too), or a part of one (`ROWS/4`).
//! Includes come from `shaders/shared/`.
//!
//! Tensors are declared as storage buffers, `var<storage, read> NAME: array<vec4<f32>>;`, and a variant that binds one in
//! another form gets another declaration. `//#loads NAME ...` defines `NAME_at(i)`, vec4 i of a tensor in whatever form.

use std::ops::Range;

use super::texture;

/// How a variant binds a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a storage buffer.
    Storage,
    /// As a uniform buffer, of as many vec4s as the kernel's constant `NAME_QUADS` says, each in two words of 64 bits:
    /// software adapters load word by word, so these cost half as much as four of 32 bits.
    Uniform,
    /// As a read-only storage texture of RGBA floats, into which the recorder copies it: vec4 i becomes texel
    /// (i % 1024, i / 1024).
    Texture,
}

/// Names and texts of everything in `shaders/shared/`, listed by `build.rs`.
const SHARED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shared_shaders.rs"));

/// The WGSL that the compiler sees: the constants, then the source with its includes and loops expanded. `renamed` swaps
/// an include for another of the same functions; `forms` has the tensors that are no storage buffers.
///
/// # Errors
/// An unknown include, an unbalanced loop or a malformed range, with its line; a tensor that is not declared.
pub fn compose(
    source: &str,
    constants: &[(&str, u32)],
    renamed: &[(&str, &str)],
    forms: &[(&str, Form)],
) -> Result<String, String> {
    let included = load(&declare(&include(source, renamed)?, forms)?, forms);
    let lines: Vec<&str> = included.lines().collect();
    let mut out: String = constants.iter().map(|(name, value)| format!("const {name} = {value}u;\n")).collect();
    let mut variables = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    expand(&lines, constants, &mut variables, &mut out)?;
    Ok(out)
}

fn include(source: &str, renamed: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::new();
    for line in source.lines() {
        match line.trim().strip_prefix("//#include ") {
            Some(asked) => {
                let name = renamed.iter().find(|(from, _)| *from == asked).map_or(asked, |(_, to)| to);
                let (_, text) =
                    SHARED.iter().find(|(known, _)| *known == name).ok_or(format!("unknown include `{name}`"))?;
                out.push_str(&include(text, renamed)?);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

/// The source with other declarations of the tensors that are no storage buffers.
fn declare(source: &str, forms: &[(&str, Form)]) -> Result<String, String> {
    forms.iter().try_fold(source.to_owned(), |source, (name, form)| {
        let buffer = format!("var<storage, read> {name}: array<vec4<f32>>;");
        let declared = match form {
            Form::Storage => buffer.clone(),
            Form::Uniform => format!("var<uniform> {name}: array<vec2<u64>, {}_QUADS>;", name.to_uppercase()),
            Form::Texture => format!("var {name}: texture_storage_2d<rgba32float, read>;"),
        };
        let is_declared = source.contains(&buffer);
        is_declared.then(|| source.replace(&buffer, &declared)).ok_or(format!("there is no `{buffer}`"))
    })
}

/// The source with a function in place of each name behind a `//#loads`.
fn load(source: &str, forms: &[(&str, Form)]) -> String {
    let mut out = String::new();
    for line in source.lines() {
        let Some(names) = line.trim().strip_prefix("//#loads ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        for name in names.split_whitespace() {
            let vec4 = match forms.iter().find(|(tensor, _)| *tensor == name) {
                Some((_, Form::Texture)) => texture::load(name, "i"),
                Some((_, Form::Uniform)) => {
                    let words = |part| format!("u32({name}[i].{part}), u32({name}[i].{part} >> 32u)");
                    format!("bitcast<vec4<f32>>(vec4({}, {}))", words("x"), words("y"))
                }
                _ => format!("{name}[i]"),
            };
            out.push_str(&format!("fn {name}_at(i: u32) -> vec4<f32> {{\n    return {vec4};\n}}\n\n"));
        }
    }
    out
}

fn expand(
    lines: &[&str],
    constants: &[(&str, u32)],
    variables: &mut Vec<(String, u32)>,
    out: &mut String,
) -> Result<(), String> {
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index];
        index += 1;
        if let Some(header) = line.trim().strip_prefix("//#for ") {
            let header = substitute(header, variables);
            let (name, range) = parse_header(&header, constants)?;
            let length = matching_end(&lines[index..]).ok_or(format!("`//#for {header}` has no //#end"))?;
            for value in range {
                variables.push((name.to_owned(), value));
                expand(&lines[index..index + length], constants, variables, out)?;
                variables.pop();
            }
            index += length + 1;
        } else if line.trim() == "//#end" {
            return Err("an //#end without its //#for".into());
        } else {
            out.push_str(&substitute(line, variables));
            out.push('\n');
        }
    }
    Ok(())
}

/// Every `{...}` that is a term of a variable of the loops around a line: `{v}`, `{2v}`, `{2v+1}`, `{v/4}`, `{v%4}`.
fn substitute(line: &str, variables: &[(String, u32)]) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let term = after.split_once('}').and_then(|(term, tail)| Some((evaluate(term, variables)?, tail)));
        match term {
            Some((value, tail)) => {
                out.push_str(&value.to_string());
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}

/// The value of a term, if it is one.
fn evaluate(term: &str, variables: &[(String, u32)]) -> Option<u32> {
    let name_at = term.find(|c: char| !c.is_ascii_digit())?;
    let name_end = term.find(['+', '/', '%']).unwrap_or(term.len());
    let (_, value) = variables.iter().find(|(name, _)| Some(name.as_str()) == term.get(name_at..name_end))?;
    let factor = if name_at == 0 { 1 } else { term[..name_at].parse().ok()? };
    let value = factor * value;
    let Some(operator) = term[name_end..].chars().next() else { return Some(value) };
    let operand: u32 = term[name_end + 1..].parse().ok()?;
    Some(match operator {
        '+' => value + operand,
        '/' => value / operand,
        _ => value % operand,
    })
}

fn parse_header<'h>(header: &'h str, constants: &[(&str, u32)]) -> Result<(&'h str, Range<u32>), String> {
    let malformed = || format!("`//#for {header}`: expected `//#for NAME in A..B`");
    let (name, range) = header.split_once(" in ").ok_or_else(malformed)?;
    let (start, end) = range.split_once("..").ok_or_else(malformed)?;
    let value = |text: &str| {
        let constant = constants.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        constant.or_else(|| text.parse().ok()).ok_or_else(malformed)
    };
    let bound = |text: &str| match text.trim().split_once('/') {
        Some((whole, part)) => Ok(value(whole)? / value(part)?.max(1)),
        None => value(text.trim()),
    };
    Ok((name.trim(), bound(start)?..bound(end)?))
}

/// Lines up to the `//#end` of a loop whose header has been read.
fn matching_end(lines: &[&str]) -> Option<usize> {
    let mut depth = 0;
    for (index, line) in lines.iter().enumerate() {
        match line.trim() {
            "//#end" if depth == 0 => return Some(index),
            "//#end" => depth -= 1,
            text if text.starts_with("//#for ") => depth += 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Form, compose};

    #[test]
    fn loops_nest_and_substitute() {
        let text =
            compose("//#for r in 0..2\n//#for c in 1..3\nlet a{r}_{c} = {c};\n//#end\n//#end\n", &[("N", 3)], &[], &[])
                .expect("valid");
        assert_eq!(text, "const N = 3u;\nlet a0_1 = 1;\nlet a0_2 = 2;\nlet a1_1 = 1;\nlet a1_2 = 2;\n");
    }

    #[test]
    fn bounds_may_be_constants_and_indices_are_split() {
        let text =
            compose("//#for r in 2..N/2\nlet a{r} = b{r/4}[{r%4}];\n//#end\n", &[("N", 12)], &[], &[]).expect("valid");
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>()[2..], ["let a4 = b1[0];", "let a5 = b1[1];"]);
    }

    #[test]
    fn terms_are_evaluated_and_other_braces_stay() {
        let source = "//#for s in 0..2\nfn f{s}() { return {4s+3}; }\n//#for k in 0..N_{s}\n{s}{2k}\n//#end\n//#end\n";
        let text = compose(source, &[("N_0", 1), ("N_1", 2)], &[], &[]).expect("valid");
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(lines, ["fn f0() { return 3; }", "00", "fn f1() { return 7; }", "10", "12"]);
    }

    #[test]
    fn an_include_can_be_swapped() {
        let text = compose("//#include broadcast\n", &[], &[("broadcast", "broadcast_shuffle")], &[]).expect("valid");
        assert!(text.contains("subgroupShuffle"));
    }

    #[test]
    fn tensors_are_declared_and_loaded_in_their_form() {
        let source = "var<storage, read> a: array<vec4<f32>>; // (n)\n//#loads a\n";
        let text = |form: &[(&str, Form)]| compose(source, &[], &[], form).expect("valid");
        let load = |vec4: &str| format!("fn a_at(i: u32) -> vec4<f32> {{\n    return {vec4};\n}}\n\n");
        assert_eq!(text(&[]), format!("var<storage, read> a: array<vec4<f32>>; // (n)\n{}", load("a[i]")));
        assert_eq!(text(&[("a", Form::Storage)]), text(&[]));
        let words = "bitcast<vec4<f32>>(vec4(u32(a[i].x), u32(a[i].x >> 32u), u32(a[i].y), u32(a[i].y >> 32u)))";
        let uniform = format!("var<uniform> a: array<vec2<u64>, A_QUADS>; // (n)\n{}", load(words));
        assert_eq!(text(&[("a", Form::Uniform)]), uniform);
        let texel = "textureLoad(a, vec2(i % 1024u, i / 1024u))";
        let texture = format!("var a: texture_storage_2d<rgba32float, read>; // (n)\n{}", load(texel));
        assert_eq!(text(&[("a", Form::Texture)]), texture);
        let error = compose(source, &[], &[], &[("b", Form::Texture)]).expect_err("not declared");
        assert!(error.contains("read> b: array"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(compose("//#include nothing", &[], &[], &[]).expect_err("unknown").contains("nothing"));
        assert!(compose("//#for r in 0..2\n", &[], &[], &[]).expect_err("open").contains("no //#end"));
        assert!(compose("//#for r = 2\n//#end", &[], &[], &[]).expect_err("malformed").contains("NAME in A..B"));
    }
}
