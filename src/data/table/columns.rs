//! Which columns of a table are taken.

use super::layout::{Layout, list};
use crate::data::DataConfig;
use crate::error::{Error, Result, nearest};

/// The columns to take, counted from 0, in their order.
///
/// # Errors
/// Bad input: a column that is not there, is not the only one of its name, or is named twice; none at all.
pub(super) fn chosen(
    layout: &Layout,
    config: &DataConfig,
    subject: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>> {
    let mut find = |keys: &Option<Vec<String>>, flag: &'static str| -> Result<Option<Vec<usize>>> {
        let Some(keys) = keys else { return Ok(None) };
        let mut found = Vec::new();
        for key in keys {
            let column = column(layout, key.trim(), flag, subject, notes)?;
            if found.contains(&column) {
                let problem = format!("names column {} twice", layout.label(column));
                return Err(Error::input(flag, problem, "Name each column once"));
            }
            found.push(column);
        }
        Ok(Some(found))
    };
    let skipped = find(&config.skip_columns, "--skip-columns")?.unwrap_or_default();
    let columns = find(&config.columns, "--columns")?;
    let is_index = |column: &usize| *column == 0 && layout.index.is_some();
    let columns: Vec<usize> = match columns {
        Some(columns) => columns.into_iter().filter(|column| !skipped.contains(column)).collect(),
        None => {
            let all = 0..layout.names.len();
            all.filter(|column| !skipped.contains(column) && !is_index(column)).collect()
        }
    };
    if columns.is_empty() {
        let problem = format!("no column is left of {}", all(layout));
        return Err(Error::input(subject, problem, "Name some by --columns, or fewer by --skip-columns"));
    }
    Ok(columns)
}

fn column(layout: &Layout, key: &str, flag: &'static str, subject: &str, notes: &mut Vec<String>) -> Result<usize> {
    let named: Vec<usize> = (0..layout.names.len()).filter(|&column| layout.names[column] == key).collect();
    let number = key.parse().ok().filter(|number| (1..=layout.names.len()).contains(number));
    match (&named[..], number) {
        (&[column], _) if !key.is_empty() => {
            if number.is_some_and(|number| number != column + 1) {
                notes.push(format!("{flag} {key} was taken as the name of column {}", column + 1));
            }
            Ok(column)
        }
        (_, Some(number)) => Ok(number - 1),
        ([_, _, ..], None) if !key.is_empty() => {
            let numbers: Vec<String> = named.iter().map(|column| (column + 1).to_string()).collect();
            let problem = format!("`{key}` is the name of columns {} of {subject}", numbers.join(" and "));
            Err(Error::input(flag, problem, "Give the number of the one that is meant"))
        }
        _ => {
            let mut names = layout.names.iter().map(String::as_str).filter(|name| !name.is_empty()).peekable();
            let remedy = match layout.has_names && !key.is_empty() && names.peek().is_some() {
                true => format!("Did you mean `{}`?", nearest(key, names)),
                false => format!("Give a number from 1 to {}", layout.names.len()),
            };
            Err(Error::input(flag, format!("`{key}` is no column of {subject}, which has {}", all(layout)), remedy))
        }
    }
}

fn all(layout: &Layout) -> String {
    match layout.has_names {
        true => list(&(0..layout.names.len()).map(|column| layout.label(column)).collect::<Vec<_>>()),
        false if layout.names.len() == 1 => "1 column without name".into(),
        false => format!("{} columns without names", layout.names.len()),
    }
}
