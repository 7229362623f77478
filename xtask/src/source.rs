//! Rust text with code, comments and strings told apart.

/// A source file, line by line.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root.
    pub(crate) path: String,
    lines: Vec<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// What is neither comment nor in quotes.
    code: String,
    has_comment: bool,
}

/// What the scanner is in the middle of.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Code,
    LineComment,
    /// How deep.
    BlockComment(usize),
    String,
    /// How many `#` close it.
    RawString(usize),
}

impl Source {
    /// Tells the parts of `text` apart.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut lines = vec![Line::default()];
        let mut within = Within::Code;
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let (length, next) = advance(within, rest, last_of(&lines));
            if character == '\n' {
                lines.push(Line::default());
            } else if let Some(line) = lines.last_mut() {
                keep(line, within, next, &rest[..length]);
            }
            if character == '\n' && within == Within::LineComment {
                within = Within::Code;
            } else {
                within = next;
            }
            rest = &rest[length..];
        }
        Self { path: path.to_owned(), lines }
    }

    /// The code of each line, from line 1.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line.code.as_str()))
    }

    /// Whether a comment stands on that line.
    pub(crate) fn has_comment(&self, number: usize) -> bool {
        number.checked_sub(1).and_then(|index| self.lines.get(index)).is_some_and(|line| line.has_comment)
    }

    /// Lines whose code has one of these words, whole.
    pub(crate) fn lines_with_word(&self, words: &[&str]) -> Vec<(usize, String)> {
        let found =
            |(number, code)| Some((number, words_of(code).find(|word| words.contains(word))?.to_owned()));
        self.code().filter_map(found).collect()
    }
}

/// Identifiers and numbers of a line of code.
pub(crate) fn words_of(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn last_of(lines: &[Line]) -> Option<char> {
    lines.last().and_then(|line| line.code.chars().last())
}

fn keep(line: &mut Line, before: Within, after: Within, text: &str) {
    let is_comment = |within| matches!(within, Within::LineComment | Within::BlockComment(_));
    if is_comment(before) || is_comment(after) {
        line.has_comment = true;
    } else if before == Within::Code && after == Within::Code && !text.starts_with('\'') {
        line.code.push_str(text);
    } else {
        // A space keeps what stands on both sides apart.
        line.code.push(' ');
    }
}

/// How many bytes of `rest` belong together, and what follows them. `last` is the last character of code on the line.
fn advance(within: Within, rest: &str, last: Option<char>) -> (usize, Within) {
    let one = rest.chars().next().map_or(0, char::len_utf8);
    match within {
        Within::Code => advance_in_code(rest, one, last),
        Within::LineComment => (one, Within::LineComment),
        Within::BlockComment(depth) if rest.starts_with("/*") => (2, Within::BlockComment(depth + 1)),
        Within::BlockComment(1) if rest.starts_with("*/") => (2, Within::Code),
        Within::BlockComment(depth) if rest.starts_with("*/") => (2, Within::BlockComment(depth - 1)),
        Within::String if rest.starts_with("\\\\") || rest.starts_with("\\\"") => (2, Within::String),
        Within::String if rest.starts_with('"') => (1, Within::Code),
        Within::RawString(marks) if closes(rest, marks) => (1 + marks, Within::Code),
        Within::BlockComment(_) | Within::String | Within::RawString(_) => (one, within),
    }
}

fn advance_in_code(rest: &str, one: usize, last: Option<char>) -> (usize, Within) {
    let in_word = last.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_word);
    let opening = raw.map(|after| (after, after.len() - after.trim_start_matches('#').len()));
    match opening {
        Some((after, marks)) if after[marks..].starts_with('"') => {
            (rest.len() - after.len() + marks + 1, Within::RawString(marks))
        }
        _ if rest.starts_with("//") => (2, Within::LineComment),
        _ if rest.starts_with("/*") => (2, Within::BlockComment(1)),
        _ if rest.starts_with('"') => (1, Within::String),
        _ if rest.starts_with('\'') => (character_literal(rest).unwrap_or(one), Within::Code),
        _ => (one, Within::Code),
    }
}

fn closes(rest: &str, marks: usize) -> bool {
    rest.strip_prefix('"')
        .is_some_and(|after| after.bytes().take_while(|byte| *byte == b'#').count() >= marks)
}

/// The length of `'x'` or `'\n'`; none for a lifetime.
fn character_literal(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    let (_, first) = characters.next()?;
    let (_, second) = characters.next()?;
    if first == '\\' {
        let after_escaped = characters.find(|(_, c)| *c == '\'' || *c == '\n');
        return after_escaped.filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    (second == '\'').then(|| 2 + first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        Source::new("a.rs", text).code().map(|(_, code)| code.trim().to_owned()).collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(
            code("let a = 1; // unsafe\n/* unsafe /* two */ still */ let b;"),
            ["let a = 1;", "let b;"]
        );
        let call = &code("f(\"unsafe \\\" // no\", x)")[0];
        assert!(call.starts_with("f(") && call.ends_with(", x)") && !call.contains("unsafe"), "{call}");
        assert!(!code("let s = r#\"unsafe \" still\"#; g()")[0].contains("unsafe"));
        assert!(code("let s = r#\"unsafe \" still\"#; g()")[0].ends_with("; g()"));
        assert!(!code("let s = \"two\nunsafe lines\"; h()")[1].contains("unsafe"));
    }

    #[test]
    fn characters_are_not_lifetimes() {
        assert!(code("fn f<'a>(x: &'a str) -> char { '\"' } // c")[0].ends_with('}'));
        assert!(code("let quote = '\\''; let x = 1;")[0].ends_with("let x = 1;"));
        assert_eq!(code("let letter = 'r'; let y = for_r\n;").len(), 2);
    }

    #[test]
    fn lines_know_their_comments_and_words() {
        let source = Source::new("a.rs", "// why\n#[allow(x)]\nlet unsafe_code = 2;");
        assert!(source.has_comment(1) && !source.has_comment(2) && !source.has_comment(0));
        assert!(source.lines_with_word(&["unsafe"]).is_empty());
        assert_eq!(source.lines_with_word(&["allow"]), [(2, "allow".to_owned())]);
    }
}
