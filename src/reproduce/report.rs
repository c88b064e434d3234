//! What an experiment says: tables and pictures, for people (Markdown) and for programs (JSON).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::{Request, write_json};
use crate::bench::Environment;
use crate::error::Result;
use crate::files;

/// What an experiment came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its name.
    pub experiment: String,
    /// One line.
    pub title: String,
    /// What is compared, and how: paragraphs of Markdown.
    pub notes: Vec<String>,
    /// Tables in order.
    pub tables: Vec<Table>,
    /// Pictures, relative to the folder, with what they show.
    pub pictures: Vec<(String, String)>,
    /// What was asked for.
    pub request: Option<Request>,
    /// Adapter, version, commit and day.
    pub environment: Option<Environment>,
    /// Wall time of the last session, s.
    pub seconds: f64,
}

/// A table: in JSON a list of objects, one a row, whose keys are the columns.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

/// What stands in a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number with so many decimals where people read it; programs get all digits.
    Number(f64, usize),
    /// A number in powers of ten: small errors.
    Small(f64),
    /// A whole number.
    Count(u64),
    /// Does not apply.
    None,
}

impl Report {
    /// An empty one.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}: {}\n", self.experiment, self.title);
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        for table in &self.tables {
            let _ = write!(text, "\n## {}\n\n{}", table.title, table.to_markdown());
        }
        for (file, caption) in &self.pictures {
            let _ = write!(text, "\n![{caption}]({file})\n\n{caption}\n");
        }
        if let Some(request) = &self.request {
            let _ = write!(text, "\nBudget {} min, seed {}", request.minutes, request.seed);
            if let Some(data) = &request.data {
                let _ = write!(text, ", data {data}");
            }
            let _ = write!(text, "; the last session took {:.1} min", self.seconds / 60.0);
        }
        if let Some(environment) = &self.environment {
            let adapter = &environment.adapter;
            let _ = write!(
                text,
                " on {} ({}), arcsm {}, commit {}, {}",
                adapter.name, adapter.driver, environment.version, environment.commit, environment.date
            );
        }
        text + ".\n"
    }

    /// Writes `report.md` and `report.json`.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = self.to_markdown();
        files::write_atomically(&folder.join("report.md"), |file| file.write_all(text.as_bytes()))?;
        write_json(&folder.join("report.json"), self)
    }
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has more or fewer cells than there are columns.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "one cell for each column");
        self.rows.push(row);
    }

    /// Numbers are aligned to the right; pads cells, so that the source reads as a table too.
    pub fn to_markdown(&self) -> String {
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(Cell::to_text).collect()).collect();
        let columns = 0..self.columns.len();
        let width = |c: usize| {
            cells
                .iter()
                .map(|row| row[c].chars().count())
                .chain([self.columns[c].chars().count(), 3])
                .max()
                .unwrap_or(3)
        };
        let is_number = |c: usize| self.rows.iter().all(|row| !matches!(row[c], Cell::Text(_)));
        let line = |row: &[String]| {
            let padded = columns.clone().map(|c| match is_number(c) {
                true => format!(" {:>1$} |", row[c], width(c)),
                false => format!(" {:<1$} |", row[c], width(c)),
            });
            format!("|{}\n", padded.collect::<String>())
        };
        let rule = |c: usize| match is_number(c) {
            true => format!("{:->1$}:|", "", width(c) + 1),
            false => format!("{:-<1$}|", "", width(c) + 2),
        };
        let rule = format!("|{}\n", columns.clone().map(rule).collect::<String>());
        [line(&self.columns), rule].into_iter().chain(cells.iter().map(|row| line(row))).collect()
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = |row: &Vec<Cell>| {
            let entries = self.columns.iter().cloned().zip(row.iter().map(Cell::to_json));
            serde_json::Value::Object(entries.collect())
        };
        let rows: Vec<serde_json::Value> = self.rows.iter().map(object).collect();
        serde_json::json!({ "title": self.title, "columns": self.columns, "rows": rows }).serialize(serializer)
    }
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.replace('|', "\\|"),
            Self::Number(value, decimals) => format!("{value:.decimals$}"),
            Self::Small(value) => format!("{value:.1e}"),
            Self::Count(count) => count.to_string(),
            Self::None => "-".into(),
        }
    }

    /// Null stands for what is not finite too, of which JSON has no word.
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(value, _) | Self::Small(value) => (*value).into(),
            Self::Count(count) => (*count).into(),
            Self::None => serde_json::Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_read_as_markdown_and_as_objects() {
        let mut table = Table::new("t", &["model", "nats", "mass off"]);
        table.push(vec![Cell::text("a|b"), Cell::Number(1.23456, 2), Cell::Small(1.5e-4)]);
        table.push(vec![Cell::text("long name"), Cell::None, Cell::Small(f64::NAN)]);
        let want = "| model     | nats | mass off |\n\
                    |-----------|-----:|---------:|\n\
                    | a\\|b      | 1.23 |   1.5e-4 |\n\
                    | long name |    - |      NaN |\n";
        assert_eq!(table.to_markdown(), want);
        let json = serde_json::to_value(&table).expect("plain");
        assert_eq!(json["rows"][0]["nats"], 1.23456);
        assert!(json["rows"][1]["nats"].is_null() && json["rows"][1]["mass off"].is_null());
    }
}
