//! What a solver printed, read strictly: anything unexpected is an error, never a verdict.

pub enum Verdict {
    Sat,
    Unsat,
    /// With the reason.
    Unknown(String),
}

pub enum Answer {
    Unsat,
    /// The model, as printed; empty if none was asked for.
    Sat(String),
    Unknown(String),
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    let mut out: String = text.chars().take(200).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// The answer to one `(check-sat)`.
pub fn verdict(output: &str) -> Result<Verdict, String> {
    match output.trim() {
        "sat" => Ok(Verdict::Sat),
        "unsat" => Ok(Verdict::Unsat),
        other => match other.strip_prefix("unknown") {
            Some(rest) if rest.is_empty() || rest.starts_with(" (") => Ok(Verdict::Unknown(reason(rest))),
            _ => Err(format!("expected `sat`, `unsat` or `unknown`, got `{}`", shortened(other))),
        },
    }
}

/// The answer to `(get-model)`.
pub fn model(output: &str) -> Result<String, String> {
    let text = output.trim();
    if text.starts_with('(') && !text.starts_with("(error") {
        Ok(text.to_string())
    } else {
        Err(format!("expected a model, got `{}`", shortened(text)))
    }
}

/// cvc5 prints its `UnknownExplanation` behind the verdict, such as ` (TIMEOUT)`.
fn reason(rest: &str) -> String {
    match rest.trim().trim_start_matches('(').trim_end_matches(')') {
        "" => "the solver gave no reason".into(),
        "TIMEOUT" | "RESOURCEOUT" => "timeout".into(),
        "MEMOUT" => "out of memory".into(),
        other => format!("the solver gave up: {}", shortened(&other.to_lowercase())),
    }
}
