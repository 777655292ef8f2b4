//! `nnc check FILE...`.

use crate::arguments::Check;
use crate::terminal::{self, GOOD};
use crate::{Failure, output, setup};
use nnc_driver::{DriverError, Project};
use nnc_graph::DType;
use nnc_lang::diagnostic::{Diagnostic, Severity, Sources};
use nnc_lang::elaborate::Options;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn run(options: &Check) -> Result<(), Failure> {
    let language =
        Options { bind: setup::bindings(&options.bind)?, set: BTreeMap::new(), only: None, float: DType::F32 };
    let mut listed = Vec::new();
    let mut failed = false;
    for file in &options.files {
        let (diagnostics, sources) = match Project::load(file, &language) {
            Ok(project) => (project.warnings, project.sources),
            Err(DriverError::Diagnostics { diagnostics, sources }) => (diagnostics, *sources),
            Err(error) => {
                terminal::print_error(&error.to_string());
                failed = true;
                continue;
            }
        };
        failed |= diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
        if options.json {
            listed.extend(diagnostics.iter().map(|diagnostic| as_json(diagnostic, &sources)));
        } else if diagnostics.is_empty() {
            output::line(&format!("{GOOD}ok{GOOD:#} {}", file.display()))?;
        } else {
            terminal::print_diagnostics(&diagnostics, &sources);
        }
    }
    if options.json {
        output::line(&Value::from(listed).to_string())?;
    }
    if failed { Err(Failure::Printed) } else { Ok(()) }
}

fn as_json(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let place = |span| {
        let at = sources.locate(span);
        json!({"file": at.file, "line": at.line, "column": at.column, "start": span.start, "end": span.end})
    };
    let secondary = diagnostic.secondary.iter().map(|label| json!({"place": place(label.span), "text": label.text}));
    json!({
        "code": diagnostic.code.name(),
        "severity": if diagnostic.severity() == Severity::Error { "error" } else { "warning" },
        "message": diagnostic.message,
        "place": place(diagnostic.primary.span),
        "label": diagnostic.primary.text,
        "secondary": secondary.collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
    })
}
