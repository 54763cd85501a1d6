//! What a solver printed, read strictly: anything unexpected is an error, never a verdict.

pub enum Verdict {
    Sat,
    Unsat,
    Unknown,
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
        "unknown" => Ok(Verdict::Unknown),
        other => Err(format!("expected `sat`, `unsat` or `unknown`, got `{}`", shortened(other))),
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

/// The answer to `(get-info :reason-unknown)`.
pub fn reason_unknown(output: &str) -> String {
    let inner = output.trim().trim_start_matches("(:reason-unknown").trim_end_matches(')').trim();
    match inner {
        "" => "the solver gave no reason".into(),
        "timeout" | "resourceout" => "timeout".into(),
        other => format!("the solver gave up: {}", shortened(other)),
    }
}
