//! Where an input is wrong: positions, messages and carets.
use std::collections::HashSet;

use miette::Diagnostic as Report;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// One finding in a text that somebody wrote. Lines and columns are 1-based; columns count characters.
#[pyclass(frozen, get_all, eq, hash, module = "acgs1_kernel")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    pub message: String,
    pub help: Option<String>,
    /// The name that the caller gave to the text.
    pub source: String,
    pub policy_id: Option<String>,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    /// The source line of `line`.
    pub snippet: String,
}

#[pymethods]
impl Diagnostic {
    /// `source:line:column: message`, the source line, and a caret line under the place.
    pub fn render(&self) -> String {
        let indent: String = self
            .snippet
            .chars()
            .take(self.column.saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let last = if self.end_line == self.line { self.end_column } else { self.snippet.chars().count() + 1 };
        let carets = "^".repeat(last.saturating_sub(self.column).max(1));
        let mut out = format!(
            "{}:{}:{}: {}\n  {}\n  {indent}{carets}",
            self.source, self.line, self.column, self.message, self.snippet
        );
        if let Some(help) = &self.help {
            out.push_str("\n  help: ");
            out.push_str(help);
        }
        out
    }

    /// The fields as a dictionary of plain values.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let d = PyDict::new(py);
        d.set_item("message", &self.message)?;
        d.set_item("help", &self.help)?;
        d.set_item("source", &self.source)?;
        d.set_item("policy_id", &self.policy_id)?;
        d.set_item("line", self.line)?;
        d.set_item("column", self.column)?;
        d.set_item("end_line", self.end_line)?;
        d.set_item("end_column", self.end_column)?;
        d.set_item("snippet", &self.snippet)?;
        Ok(d)
    }

    fn __str__(&self) -> String {
        format!("{}:{}:{}: {}", self.source, self.line, self.column, self.message)
    }

    fn __repr__(&self) -> String {
        format!("Diagnostic({:?})", self.__str__())
    }
}

/// Where the lines of a text begin.
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(i, _)| i + 1));
        Lines { text, starts }
    }

    /// 1-based line and 1-based column, in characters, of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column =
            self.text.get(start..).unwrap_or_default().char_indices().take_while(|(i, _)| start + i < offset).count()
                + 1;
        (line, column)
    }

    /// The text of a 1-based line.
    pub fn line(&self, line: usize) -> &'a str {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }
}

/// A text and the name under which its findings are reported.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    /// A finding at a span of bytes; without a span, at the beginning.
    pub fn at(
        &self,
        span: Option<(usize, usize)>,
        message: String,
        help: Option<String>,
        policy_id: Option<String>,
    ) -> Diagnostic {
        let (start, end) = span.unwrap_or((0, 0));
        let lines = Lines::new(self.text);
        let (line, column) = lines.position(start);
        let (end_line, end_column) = lines.position(end.max(start));
        Diagnostic {
            message,
            help,
            source: self.name.to_string(),
            policy_id,
            line,
            column,
            end_line,
            end_column,
            snippet: lines.line(line).to_string(),
        }
    }

    /// A report of the Cedar libraries and everything related to it, each once, in source order.
    pub fn reports<'r>(&self, reports: impl IntoIterator<Item = (&'r dyn Report, Option<String>)>) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (report, policy_id) in reports {
            self.one(report, &policy_id, &mut found);
        }
        let mut seen = HashSet::new();
        found.retain(|d| seen.insert(d.clone()));
        found.sort_by_key(|d| (d.line, d.column));
        found
    }

    fn one(&self, report: &dyn Report, policy_id: &Option<String>, out: &mut Vec<Diagnostic>) {
        let span = report
            .labels()
            .and_then(|mut labels| labels.next())
            .map(|label| (label.offset(), label.offset() + label.len()));
        let mut message = report.to_string();
        // A short label such as "expected `;`" belongs to the message.
        if let Some(label) =
            report.labels().and_then(|mut labels| labels.next()).and_then(|label| label.label().map(str::to_string))
        {
            if !message.contains(&label) {
                message = format!("{message}: {label}");
            }
        }
        let mut cause = report.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        let help = report.help().map(|h| h.to_string());
        out.push(self.at(span, message, help, policy_id.clone()));
        if let Some(related) = report.related() {
            for other in related {
                self.one(other, policy_id, out);
            }
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let text = e.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = e.source();
    }
    message
}
