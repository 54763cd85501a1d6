//! SMT-LIB scripts as S-expressions.

/// Deepest nesting; the encoder's own scripts are flat.
const MAX_DEPTH: usize = 1000;

enum Token<'s> {
    Open,
    Close,
    /// A symbol, number, string or quoted symbol, verbatim.
    Atom(&'s str),
}

/// An S-expression; comments are dropped.
pub enum Node<'s> {
    Atom(&'s str),
    List(Vec<Node<'s>>),
}

fn tokens(script: &str) -> Result<Vec<Token<'_>>, String> {
    let mut out = Vec::new();
    let mut rest = script;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(out) };
        let length = match first {
            '(' => {
                out.push(Token::Open);
                1
            }
            ')' => {
                out.push(Token::Close);
                1
            }
            ';' => rest.find('\n').map_or(rest.len(), |i| i + 1),
            '"' | '|' => {
                // In SMT-LIB 2.6 a quote inside a string is doubled, which reads here as two adjacent strings.
                let end = rest
                    .char_indices()
                    .skip(1)
                    .find(|(_, c)| *c == first)
                    .map(|(i, _)| i + 1)
                    .ok_or_else(|| format!("unterminated `{first}`"))?;
                let mut end = end;
                while first == '"' && rest.get(end..).is_some_and(|r| r.starts_with('"')) {
                    let more = rest.get(end + 1..).and_then(|r| r.find('"'));
                    end += 2 + more.ok_or_else(|| "unterminated string".to_string())?;
                }
                out.push(Token::Atom(rest.get(..end).unwrap_or_default()));
                end
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ';' | '"' | '|'))
                    .unwrap_or(rest.len());
                out.push(Token::Atom(rest.get(..end).unwrap_or_default()));
                end
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// The commands of a script.
pub fn parse(script: &str) -> Result<Vec<Node<'_>>, String> {
    let mut stack: Vec<Vec<Node<'_>>> = vec![Vec::new()];
    for token in tokens(script)? {
        match token {
            Token::Open if stack.len() > MAX_DEPTH => {
                return Err(format!("nested deeper than {MAX_DEPTH} levels"));
            }
            Token::Open => stack.push(Vec::new()),
            Token::Atom(a) => match stack.last_mut() {
                Some(top) => top.push(Node::Atom(a)),
                None => return Err("unbalanced parentheses".into()),
            },
            Token::Close => {
                let (Some(done), Some(top)) = (stack.pop(), stack.last_mut()) else {
                    return Err("unbalanced parentheses".into());
                };
                top.push(Node::List(done));
            }
        }
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(top), true) => Ok(top),
        _ => Err("unbalanced parentheses".into()),
    }
}

impl Node<'_> {
    /// The expression as text.
    pub fn write(&self, out: &mut String) {
        match self {
            Node::Atom(a) => out.push_str(a),
            Node::List(items) => {
                out.push('(');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    item.write(out);
                }
                out.push(')');
            }
        }
    }
}
