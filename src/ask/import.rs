//! Weights of other implementations: which of their tensors is which of a model's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::arrays::{HostTensor, index_of};
use crate::files::read_text;
use crate::files::safetensors::{ForeignTensors, read_foreign};
use crate::nn::{ParamTable, Slot};

/// Missing tensors that an error names; more are counted.
const NAMED: usize = 4;

/// One of their tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    /// Its name in their file.
    pub name: String,
    /// Whether their matrix is (in, out).
    pub transpose: bool,
}

/// Which of their tensors stands for one of ours, by our name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameMap {
    /// The file that says so, for errors.
    subject: String,
    entries: BTreeMap<String, Theirs>,
}

impl NameMap {
    /// Reads a TOML file with a line for each tensor: `"our name" = "their name"`, or
    /// `"our name" = { name = "their name", transpose = true }` for a matrix (in, out).
    ///
    /// # Errors
    /// Bad input: a missing file, broken TOML, or another kind of value.
    pub fn from_file(path: &Path) -> Result<Self> {
        let subject = path.display().to_string();
        Self::from_toml(&read_text(path, "an existing TOML file")?, &subject)
    }

    /// Parses TOML text; `subject` names it in errors.
    ///
    /// # Errors
    /// As [`NameMap::from_file`].
    pub fn from_toml(text: &str, subject: &str) -> Result<Self> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let words: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
            Error::input(subject, format!("is not TOML: {}", words.join(" ")), "Mend that line")
        })?;
        let mut map = Self { subject: subject.to_owned(), entries: BTreeMap::new() };
        map.add(&table, "")?;
        Ok(map)
    }

    /// Names hold dots, which TOML takes for tables where they are not quoted: both are understood.
    fn add(&mut self, table: &toml::Table, prefix: &str) -> Result<()> {
        for (key, value) in table {
            let ours = format!("{prefix}{key}");
            let theirs = match value {
                toml::Value::String(name) => Theirs { name: name.clone(), transpose: false },
                toml::Value::Table(inner) => match (inner.get("name"), inner.get("transpose"), inner.len()) {
                    (Some(toml::Value::String(name)), None, 1) => Theirs { name: name.clone(), transpose: false },
                    (Some(toml::Value::String(name)), Some(toml::Value::Boolean(transpose)), 2) => {
                        Theirs { name: name.clone(), transpose: *transpose }
                    }
                    _ => {
                        self.add(inner, &format!("{ours}."))?;
                        continue;
                    }
                },
                other => {
                    let problem = format!("`{ours}` is {other}, expected the name of a tensor");
                    let remedy = "Write \"our name\" = \"their name\", or { name = \"their name\", transpose = true }";
                    return Err(Error::input(&self.subject, problem, remedy));
                }
            };
            self.entries.insert(ours, theirs);
        }
        Ok(())
    }
}

/// The tensors of another implementation's file, to be taken by our names.
#[derive(Debug, Clone)]
pub struct ForeignWeights {
    subject: String,
    prefix: String,
    map: NameMap,
    file: ForeignTensors,
}

/// What a model takes of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Every tensor of the model by our name, in our layout.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Names of the tensors of the file that were not taken, sorted.
    pub unused: Vec<String>,
}

impl ForeignWeights {
    /// Reads a safetensors file. A tensor that `map` does not name has our name with `prefix` before it.
    ///
    /// # Errors
    /// As [`read_foreign`].
    pub fn open(path: &Path, prefix: &str, map: NameMap) -> Result<Self> {
        let file = read_foreign(path)?;
        Ok(Self { subject: path.display().to_string(), prefix: prefix.to_owned(), map, file })
    }

    /// Shape in our layout of the tensor that is to be ours, if it is there.
    pub fn shape_of(&self, ours: &str) -> Option<Vec<usize>> {
        let theirs = self.theirs(ours);
        let mut shape = self.file.tensors.get(&theirs.name)?.shape.clone();
        if theirs.transpose {
            shape.reverse();
        }
        Some(shape)
    }

    /// Takes the tensors of a model.
    ///
    /// # Errors
    /// Bad input: a tensor that is missing (with the nearest one that is there), of another shape or type, or not
    /// finite; a map that names what neither side has.
    pub fn take(&self, table: &ParamTable) -> Result<Taken> {
        let slots: Vec<&Slot> = table.slots().map(|(_, slot)| slot).collect();
        self.check_map(&slots)?;
        let missing: Vec<_> = slots.iter().filter(|slot| !self.has(&self.theirs(&slot.name).name)).collect();
        if !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(|slot| (slot.name.as_str(), slot.file_shape())).collect();
            return Err(self.missing(&missing));
        }
        let tensors = slots.iter().map(|slot| Ok((slot.name.clone(), self.tensor(slot)?)));
        let tensors = tensors.collect::<Result<_>>()?;
        let used: BTreeSet<String> = slots.iter().map(|slot| self.theirs(&slot.name).name).collect();
        let all: BTreeSet<&String> = self.file.tensors.keys().chain(self.file.others.keys()).collect();
        Ok(Taken { tensors, unused: all.into_iter().filter(|name| !used.contains(*name)).cloned().collect() })
    }

    /// The error for tensors of ours that are not there, with their shapes; a length of 0 is any.
    ///
    /// # Panics
    /// When there are none.
    pub fn missing(&self, ours: &[(&str, Vec<usize>)]) -> Error {
        let first = ours[0].0;
        let near: Vec<_> = ours.iter().map(|(name, shape)| self.nearest(name, shape)).collect();
        let list = ours.iter().zip(&near).take(NAMED).map(|((name, shape), near)| {
            let shape = if shape.contains(&0) { String::new() } else { format!(" {shape:?}") };
            let near = near.map_or(String::new(), |near| format!(", the nearest is `{near}` {:?}", self.shape(near)));
            format!("`{}`{shape}{near}", self.theirs(name).name)
        });
        let mut list = list.collect::<Vec<_>>().join("; ");
        if ours.len() > NAMED {
            list += &format!("; and {} more", ours.len() - NAMED);
        }
        let prefix = self.file.tensors.keys().find_map(|name| name.strip_suffix(first)).filter(|p| *p != self.prefix);
        let remedy = match (prefix, near[0]) {
            (Some(prefix), _) => format!("Give the --prefix of the names: --prefix {prefix}"),
            (None, Some(near)) => format!(
                "Give the --prefix of the names, or say which is which by --map FILE.toml with lines such as \
                 \"{first}\" = \"{near}\""
            ),
            (None, None) => "Give a file with weights".into(),
        };
        Error::input(&self.subject, format!("has no tensor {list}"), remedy)
    }

    fn theirs(&self, ours: &str) -> Theirs {
        let by_prefix = || Theirs { name: format!("{}{ours}", self.prefix), transpose: false };
        self.map.entries.get(ours).cloned().unwrap_or_else(by_prefix)
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensors.contains_key(name) || self.file.others.contains_key(name)
    }

    fn shape(&self, name: &str) -> &[usize] {
        self.file.tensors.get(name).map_or(&[], |tensor| &tensor.shape)
    }

    /// Both sides of every line of the map must exist: a slip would leave a tensor out.
    fn check_map(&self, slots: &[&Slot]) -> Result<()> {
        for (ours, theirs) in &self.map.entries {
            let refuse = |problem: String, near: Option<&str>| {
                let remedy = near.map_or("Take that line out".into(), |near| format!("Did you mean `{near}`?"));
                Err(Error::input(&self.map.subject, problem, remedy))
            };
            if !slots.iter().any(|slot| slot.name == *ours) {
                let near = slots.iter().map(|slot| slot.name.as_str());
                return refuse(format!("the model has no tensor `{ours}`"), nearest(ours, near));
            }
            if !self.has(&theirs.name) {
                let near = self.file.tensors.keys().map(String::as_str);
                let problem = format!("`{ours}` is to be `{}`, and {} has no such tensor", theirs.name, self.subject);
                return refuse(problem, nearest(&theirs.name, near));
            }
        }
        Ok(())
    }

    /// The tensor that is most likely one of ours: of its shape, else of its shape transposed, else by name alone.
    fn nearest(&self, ours: &str, shape: &[usize]) -> Option<&str> {
        let of_shape = |wanted: &[usize]| {
            let fits = |found: &[usize]| {
                found.len() == wanted.len() && wanted.iter().zip(found).all(|(&wanted, n)| wanted == 0 || wanted == *n)
            };
            let fitting = self.file.tensors.iter().filter(move |(_, tensor)| fits(&tensor.shape));
            nearest(ours, fitting.map(|(name, _)| name.as_str()))
        };
        let turned: Vec<_> = shape.iter().rev().copied().collect();
        of_shape(shape)
            .or_else(|| of_shape(&turned))
            .or_else(|| nearest(ours, self.file.tensors.keys().map(String::as_str)))
    }

    /// A tensor that is there, in our layout.
    fn tensor(&self, slot: &Slot) -> Result<HostTensor> {
        let (ours, theirs, expected) = (&slot.name, self.theirs(&slot.name), slot.file_shape());
        let name = &theirs.name;
        let refuse = |problem: String, remedy: &str| Err(Error::input(&self.subject, problem, remedy));
        let Some(tensor) = self.file.tensors.get(name) else {
            let problem =
                format!("tensor `{name}` has type {}, expected F16, BF16, F32 or F64", self.file.others[name]);
            return refuse(problem, "Convert the weights to float32");
        };
        let tensor = if theirs.transpose { transposed(tensor) } else { Some(tensor.clone()) };
        let Some(tensor) = tensor else {
            return refuse(format!("tensor `{name}` is no matrix that could be transposed"), "Correct the --map");
        };
        if tensor.shape != expected {
            let is_turned = tensor.shape.len() == 2 && tensor.shape.iter().rev().eq(&expected);
            let problem = format!("tensor `{name}` has shape {:?}, the model needs {expected:?}", tensor.shape);
            if is_turned {
                let line = format!("\"{ours}\" = {{ name = \"{name}\", transpose = {} }}", !theirs.transpose);
                let problem = format!("{problem}: it is transposed");
                return refuse(problem, &format!("Say so by --map FILE.toml with the line {line}"));
            }
            return refuse(problem, "Give the weights of a model with these settings, and the --prefix of its names");
        }
        match tensor.values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (value, index) = (tensor.values[at], index_of(&tensor.shape, at));
                let problem = format!("tensor `{name}` holds {value} at index {index:?}; weights must be finite");
                refuse(problem, "Export them from before the training failed, or as float32")
            }
            None => Ok(tensor),
        }
    }
}

fn transposed(matrix: &HostTensor) -> Option<HostTensor> {
    let &[rows, columns] = matrix.shape.as_slice() else { return None };
    let values = (0..columns).flat_map(|column| (0..rows).map(move |row| matrix.values[row * columns + column]));
    Some(HostTensor::new([columns, rows], values.collect()))
}

fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Pairs of letters: prefixes differ between programs, and the ends of names say what a tensor is.
    let likeness = |candidate: &str| strsim::sorensen_dice(name, candidate);
    candidates.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::safetensors::write_weights;

    fn tensor(shape: &[usize]) -> HostTensor {
        HostTensor::new(shape, (0..shape.iter().product()).map(|i: usize| i as f32 + 0.5).collect())
    }

    /// A model with a matrix (2, 3) and a bias.
    fn table() -> ParamTable {
        let mut table = ParamTable::default();
        table.add("ctx.layers.0.weight".into(), &[2, 3], None);
        table.add("ctx.layers.0.bias".into(), &[2], None);
        table
    }

    fn foreign(tensors: &[(&str, HostTensor)], prefix: &str, map: &str) -> ForeignWeights {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.safetensors");
        let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        write_weights(&path, &tensors).expect("written");
        let map = NameMap::from_toml(map, "map.toml").expect("a map");
        ForeignWeights::open(&path, prefix, map).expect("own file")
    }

    fn refusal(weights: &ForeignWeights) -> String {
        let error = weights.take(&table()).expect_err("refused");
        assert_eq!(error.exit_status(), 2);
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    #[test]
    fn names_are_ours_behind_a_prefix_and_what_is_left_is_named() {
        let tensors =
            [("p.ctx.layers.0.weight", tensor(&[2, 3])), ("p.ctx.layers.0.bias", tensor(&[2])), ("mask", tensor(&[1]))];
        let taken = foreign(&tensors, "p.", "").take(&table()).expect("all there");
        assert_eq!(taken.tensors["ctx.layers.0.weight"], tensor(&[2, 3]));
        assert_eq!(taken.tensors["ctx.layers.0.bias"], tensor(&[2]));
        assert_eq!((taken.tensors.len(), taken.unused), (2, vec!["mask".to_owned()]));
        let text = refusal(&foreign(&tensors, "", ""));
        assert!(text.contains("`ctx.layers.0.weight` [2, 3], the nearest is `p.ctx.layers.0.weight` [2, 3]"), "{text}");
        assert!(text.ends_with("--prefix p."), "{text}");
    }

    #[test]
    fn a_map_renames_and_transposes() {
        let tensors = [("fc.kernel", tensor(&[3, 2])), ("p.ctx.layers.0.bias", tensor(&[2]))];
        for map in [
            "\"ctx.layers.0.weight\" = { name = \"fc.kernel\", transpose = true }",
            "ctx.layers.0.weight = { name = \"fc.kernel\", transpose = true }",
            "[ctx.layers.0.weight]\nname = \"fc.kernel\"\ntranspose = true",
        ] {
            let weights = foreign(&tensors, "p.", map);
            assert_eq!(weights.shape_of("ctx.layers.0.weight"), Some(vec![2, 3]));
            let taken = weights.take(&table()).expect("all there");
            let expected = HostTensor::new([2, 3], vec![0.5, 2.5, 4.5, 1.5, 3.5, 5.5]);
            assert_eq!((&taken.tensors["ctx.layers.0.weight"], taken.unused.len()), (&expected, 0), "{map}");
        }
    }

    #[test]
    fn what_is_missing_is_told_with_the_nearest_and_the_line_that_maps_it() {
        let tensors = [("net.0.b", tensor(&[2])), ("net.0.w", tensor(&[2, 3])), ("ctx.layers.0.mask", tensor(&[9, 9]))];
        let text = refusal(&foreign(&tensors, "", ""));
        // The shape tells more than the name.
        assert!(text.contains("`ctx.layers.0.weight` [2, 3], the nearest is `net.0.w` [2, 3]"), "{text}");
        assert!(text.contains("`ctx.layers.0.bias` [2], the nearest is `net.0.b` [2]"), "{text}");
        assert!(text.contains("--map FILE.toml") && text.contains("\"ctx.layers.0.weight\" = \"net.0.w\""), "{text}");
        assert!(refusal(&foreign(&[], "", "")).contains("Give a file with weights"));
        let any = foreign(&tensors, "", "").missing(&[("ctx.layers.0.weight", vec![2, 0])]).to_string();
        assert!(any.contains("no tensor `ctx.layers.0.weight`, the nearest is `net.0.w` [2, 3]"), "{any}");
    }

    #[test]
    fn transposed_matrices_other_shapes_and_numbers_that_are_not_finite_are_told() {
        let with = |weight: HostTensor, map: &str| {
            let tensors = [("ctx.layers.0.weight", weight), ("ctx.layers.0.bias", tensor(&[2]))];
            refusal(&foreign(&tensors, "", map))
        };
        let text = with(tensor(&[3, 2]), "");
        let line = "\"ctx.layers.0.weight\" = { name = \"ctx.layers.0.weight\", transpose = true }";
        assert!(text.contains("has shape [3, 2], the model needs [2, 3]: it is transposed"), "{text}");
        assert!(text.ends_with(line), "{text}");
        assert!(with(tensor(&[2, 3]), line).contains("has shape [3, 2], the model needs [2, 3]"));
        assert!(with(tensor(&[6]), line).contains("is no matrix"));
        assert!(with(tensor(&[2, 4]), "").contains("has shape [2, 4], the model needs [2, 3]. Give the weights"));
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let mut weight = tensor(&[2, 3]);
            weight.values[4] = value;
            let text = with(weight, "");
            assert!(text.contains(&format!("`ctx.layers.0.weight` holds {value} at index [1, 1]")), "{text}");
        }
    }

    #[test]
    fn files_of_other_programs_are_taken_or_refused_with_the_tensor() {
        let Some(trials) = crate::data::tests::shared("../trials/import") else { return };
        let mut table = ParamTable::default();
        for (layer, shape) in
            [("ctx.layers.0", [32, 64]), ("ctx.layers.1", [256, 32]), ("net.lin.0", [16, 6]), ("net.lin.1", [1, 16])]
        {
            table.add(format!("{layer}.weight"), &shape, None);
            table.add(format!("{layer}.bias"), &shape[..1], None);
        }
        let open = |file: &str, map: &str| {
            let map = NameMap::from_toml(map, "map").expect("a map");
            ForeignWeights::open(&trials.join(file), "", map).expect(file)
        };
        let own = open("own.safetensors", "").take(&table).expect("all there");
        let extra = open("extra.safetensors", "").take(&table).expect("all there");
        assert_eq!((own.unused.len(), extra.unused), (0, vec!["extra.weight".to_owned()]));
        let rounded = open("bf16.safetensors", "").take(&table).expect("all there").tensors;
        for (name, tensor) in &own.tensors {
            // 8 bits of a significand, the others cut off.
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 128.0;
            assert!(tensor.values.iter().zip(&rounded[name].values).all(close), "{name}");
        }
        let refusal = |file: &str| open(file, "").take(&table).expect_err(file).to_string();
        assert!(refusal("nan2.safetensors").contains("holds NaN at index ["), "{}", refusal("nan2.safetensors"));
        let text = refusal("othernames.safetensors");
        assert!(text.contains("`ctx.layers.0.weight` [32, 64], the nearest is `net.made.0.weight` [32, 64]"), "{text}");
        let map = "ctx.layers = { 0.weight = \"net.made.0.weight\", 0.bias = \"net.made.0.bias\", \
                   1.weight = \"net.made.1.weight\", 1.bias = \"net.made.1.bias\" }\n\
                   net.lin = { 0.weight = \"score.fc.0.weight\", 0.bias = \"score.fc.0.bias\", \
                   1.weight = \"score.fc.1.weight\", 1.bias = \"score.fc.1.bias\" }";
        let taken = open("othernames.safetensors", map).take(&table).expect("all there");
        assert!(taken.tensors.len() == 8 && taken.unused.is_empty());
    }

    #[test]
    fn slips_in_a_map_are_refused_with_the_nearest_name() {
        let tensors = [("fc.weight", tensor(&[2, 3])), ("ctx.layers.0.bias", tensor(&[2]))];
        for (map, expected) in [
            (
                "\"ctx.layer.0.weight\" = \"fc.weight\"",
                "no tensor `ctx.layer.0.weight`. Did you mean `ctx.layers.0.weight`?",
            ),
            ("\"ctx.layers.0.weight\" = \"fc.wait\"", "has no such tensor. Did you mean `fc.weight`?"),
        ] {
            let text = refusal(&foreign(&tensors, "", map));
            assert!(text.starts_with("map.toml: ") && text.contains(expected), "{text}");
        }
        for (map, expected) in
            [("a = 3", "`a` is 3"), ("a = { name = \"b\", turn = true }", "`a.turn` is true"), ("a", "is not TOML")]
        {
            let error = NameMap::from_toml(map, "map.toml").expect_err(map).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
