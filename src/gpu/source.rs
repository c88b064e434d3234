//! Composing WGSL: `//#include NAME` and `//#for v in a..b` ... `//#end`.
//!
//! Registers cannot be indexed at run time, so register tiles are written once and repeated: between `//#for r in 0..8`
//! and `//#end` every `{r}` becomes the number. Loops nest. Includes come from `shaders/shared/`.

use std::ops::Range;

const SHARED: &[(&str, &str)] = &[
    ("activation", include_str!("../../shaders/shared/activation.wgsl")),
    ("philox", include_str!("../../shaders/shared/philox.wgsl")),
    ("score_net", include_str!("../../shaders/shared/score_net.wgsl")),
    ("parametrisation", include_str!("../../shaders/shared/parametrisation.wgsl")),
    ("score_rows", include_str!("../../shaders/shared/score_rows.wgsl")),
    ("made_step", include_str!("../../shaders/shared/made_step.wgsl")),
    ("sampler", include_str!("../../shaders/shared/sampler.wgsl")),
];

/// The WGSL that the compiler sees: the constants, then the source with its includes and loops expanded.
///
/// # Errors
/// An unknown include, an unbalanced loop or a malformed range, with its line.
pub fn compose(source: &str, constants: &[(&str, u32)]) -> Result<String, String> {
    let included = include(source)?;
    let lines: Vec<&str> = included.lines().collect();
    let mut out: String = constants.iter().map(|(name, value)| format!("const {name} = {value}u;\n")).collect();
    expand(&lines, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn include(source: &str) -> Result<String, String> {
    let mut out = String::new();
    for line in source.lines() {
        match line.trim().strip_prefix("//#include ") {
            Some(name) => {
                let (_, text) =
                    SHARED.iter().find(|(known, _)| *known == name).ok_or(format!("unknown include `{name}`"))?;
                out.push_str(&include(text)?);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

fn expand(lines: &[&str], variables: &mut Vec<(String, u32)>, out: &mut String) -> Result<(), String> {
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index];
        index += 1;
        if let Some(header) = line.trim().strip_prefix("//#for ") {
            let (name, range) = parse_header(header)?;
            let length = matching_end(&lines[index..]).ok_or(format!("`//#for {header}` has no //#end"))?;
            for value in range {
                variables.push((name.to_owned(), value));
                expand(&lines[index..index + length], variables, out)?;
                variables.pop();
            }
            index += length + 1;
        } else if line.trim() == "//#end" {
            return Err("an //#end without its //#for".into());
        } else {
            let mut text = line.to_owned();
            for (name, value) in variables.iter() {
                text = text.replace(&format!("{{{name}}}"), &value.to_string());
            }
            out.push_str(&text);
            out.push('\n');
        }
    }
    Ok(())
}

fn parse_header(header: &str) -> Result<(&str, Range<u32>), String> {
    let malformed = || format!("`//#for {header}`: expected `//#for NAME in A..B`");
    let (name, range) = header.split_once(" in ").ok_or_else(malformed)?;
    let (start, end) = range.split_once("..").ok_or_else(malformed)?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| malformed());
    Ok((name.trim(), number(start)?..number(end)?))
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
    use super::compose;

    #[test]
    fn loops_nest_and_substitute() {
        let text = compose("//#for r in 0..2\n//#for c in 1..3\nlet a{r}_{c} = {c};\n//#end\n//#end\n", &[("N", 3)]).expect("valid");
        assert_eq!(text, "const N = 3u;\nlet a0_1 = 1;\nlet a0_2 = 2;\nlet a1_1 = 1;\nlet a1_2 = 2;\n");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(compose("//#include nothing", &[]).expect_err("unknown").contains("nothing"));
        assert!(compose("//#for r in 0..2\n", &[]).expect_err("open").contains("no //#end"));
        assert!(compose("//#for r = 2\n//#end", &[]).expect_err("malformed").contains("NAME in A..B"));
    }
}
