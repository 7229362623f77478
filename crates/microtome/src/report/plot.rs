//! Plots as SVG inside the page: axes with round numbers and units, colours from the page's style sheet.

use std::fmt::Write;

use super::numbers::{grouped, median, significant};
use super::{LossCurve, LossSeries};

/// Lines in one plot, at most: more are not told apart.
const MOST_SERIES: usize = 4;

/// Points of a line, at most; longer ones are averaged.
const MOST_POINTS: usize = 500;

/// Bars of a histogram, at most and about.
const MOST_BARS: f64 = 30.0;

/// Values beyond this fraction share the last bar, so that one giant does not squeeze the others.
const TAIL_FROM: f64 = 0.99;

/// The picture's extent and margins, in SVG units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;

/// A plot, and what a person should know beside it.
pub(crate) struct Plot {
    /// An `svg` element.
    pub(crate) svg: String,
    /// A sentence.
    pub(crate) caption: String,
}

/// What the page's style sheet says of plots, for one that stands alone.
const STYLE: &str = "svg { font: 12.5px sans-serif; background: #fff } text { fill: #555 } .end { text-anchor: end } \
    .middle { text-anchor: middle } .name, .strong { fill: #111 } .grid { stroke: #ddd } .axis { stroke: #555 } \
    .marker { stroke: #111; stroke-dasharray: 3 3 } .series { fill: none; stroke-width: 2 } .series0 { stroke: #0072b2 } \
    .series1 { stroke: #d55e00 } .series2 { stroke: #009e73 } .series3 { stroke: #cc79a7 }";

impl Plot {
    /// As a file of its own.
    pub(crate) fn alone(&self) -> String {
        let (opening, rest) = self.svg.split_once('>').unwrap_or((&self.svg, ""));
        format!("{opening} xmlns=\"http://www.w3.org/2000/svg\"><style>{STYLE}</style>{rest}\n")
    }
}

/// The losses over the steps; none if there is nothing finite to draw.
pub(crate) fn loss_plot(curve: &LossCurve) -> Option<Plot> {
    let series: Vec<&LossSeries> = curve.series.iter().take(MOST_SERIES).collect();
    let steps = series.iter().map(|series| series.values.len()).max()?;
    let finite =
        || series.iter().flat_map(|series| &series.values).copied().filter(|value| value.is_finite());
    let (low, high) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
    let y = Axis::over(low, high, HEIGHT - BOTTOM, TOP);
    let x = Axis::exactly(1.0, (steps as f64).max(2.0), LEFT, WIDTH - RIGHT);
    let mut svg = opening("Training loss over the steps of training");
    svg += &y.rows("loss");
    svg += &x.columns(&curve.step_name, |step| step.fract() == 0.0);
    if let Some(step) = curve.chosen_step {
        svg += &marker(x.place(step as f64), "chosen");
    }
    for (at, series) in series.iter().enumerate() {
        svg += &line(at, &series.values, &x, &y);
    }
    svg += &legend(&series);
    let last = series.first().and_then(|series| series.values.iter().rev().find(|value| value.is_finite()));
    let ended = last.map(|&last| format!("; the loss ended at {}", significant(last))).unwrap_or_default();
    let caption = format!(
        "{} {}{ended}. The loss says whether training went well, not how good the nuclei are.",
        grouped(steps),
        curve.step_name
    );
    Some(Plot { svg: svg + "</svg>", caption })
}

/// How many nuclei there are of each area; `unit` is µm² or px². None without nuclei.
pub(crate) fn area_histogram(areas: &[f64], unit: &str) -> Option<Plot> {
    let mut sorted = areas.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail_from =
        *sorted.get(((sorted.len() as f64 * TAIL_FROM) as usize).min(sorted.len().checked_sub(1)?))?;
    let bin = round_step(tail_from.max(f64::MIN_POSITIVE) / MOST_BARS);
    let last_bar = (tail_from / bin).floor() as usize;
    let mut counts = vec![0usize; last_bar + 1];
    for area in &sorted {
        // Within range: no value maps beyond the last bar.
        let bar = ((area / bin).max(0.0) as usize).min(last_bar);
        counts[bar] += 1;
    }
    let end = bin * (last_bar + 1) as f64;
    let beyond = sorted.iter().filter(|&&area| area >= end).count();
    let middle = median(areas)?;
    let x = Axis::exactly(0.0, end, LEFT, WIDTH - RIGHT);
    let y = Axis::over(0.0, counts.iter().copied().max()? as f64, HEIGHT - BOTTOM, TOP);
    let mut svg = opening("Histogram of the areas of nuclei");
    svg += &y.rows("nuclei");
    for (bar, &count) in counts.iter().enumerate() {
        svg += &column(bar as f64 * bin, (bar + 1) as f64 * bin, count as f64, &x, &y);
    }
    svg += &x.columns(&format!("area ({unit})"), |_| true);
    svg += &marker(x.place(middle), &format!("median {} {unit}", significant(middle)));
    let tail = match beyond {
        0 => String::new(),
        _ => format!(
            " The last bar holds also the {} nuclei above {} {unit}.",
            grouped(beyond),
            significant(end)
        ),
    };
    let caption = format!("{} nuclei in bars of {} {unit}.{tail}", grouped(areas.len()), significant(bin));
    Some(Plot { svg: svg + "</svg>", caption })
}

/// A linear scale between two numbers and two places.
struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn exactly(low: f64, high: f64, start: f64, end: f64) -> Self {
        Self { low, high, start, end }
    }

    /// Widened to round numbers; a single value gets room around it.
    fn over(low: f64, high: f64, start: f64, end: f64) -> Self {
        let spread = if high > low { high - low } else { high.abs().max(1.0) };
        let step = round_step(spread / 5.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self { low, high: if high > low { high } else { low + step }, start, end }
    }

    fn place(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// Round numbers on the scale, five or so, and how many decimals they need.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let step = round_step((self.high - self.low) / 5.0);
        let first = (self.low / step).ceil();
        let count = ((self.high / step + 1e-9).floor() - first).clamp(0.0, 20.0) as usize;
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        ((0..=count).map(|tick| (first + tick as f64) * step).collect(), decimals)
    }

    /// Horizontal lines with their numbers, and the name of the vertical axis.
    fn rows(&self, name: &str) -> String {
        let (ticks, decimals) = self.ticks();
        let mut svg = String::new();
        for tick in ticks {
            let (y, number) = (self.place(tick), tick_text(tick, decimals));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"end\" x=\"{}\" y=\"{:.1}\">{number}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0
            );
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        svg + &format!(
            "<text class=\"middle name\" transform=\"translate(14 {middle:.1}) rotate(-90)\">{}</text>",
            escaped(name)
        )
    }

    /// The horizontal axis with its numbers and name; numbers for which `wanted` is false are left out.
    fn columns(&self, name: &str, wanted: impl Fn(f64) -> bool) -> String {
        let (ticks, decimals) = self.ticks();
        let bottom = HEIGHT - BOTTOM;
        let mut svg = format!(
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>",
            WIDTH - RIGHT
        );
        for tick in ticks.into_iter().filter(|&tick| wanted(tick)) {
            let (x, number) = (self.place(tick), tick_text(tick, decimals));
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                 <text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{number}</text>",
                bottom + 4.0,
                bottom + 17.0
            );
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        svg + &format!(
            "<text class=\"middle name\" x=\"{middle}\" y=\"{}\">{}</text>",
            HEIGHT - 8.0,
            escaped(name)
        )
    }
}

/// The smallest of 1, 2, 5, 10, … × 10ⁿ that is not below `at_least`.
fn round_step(at_least: f64) -> f64 {
    let power = 10f64.powf(at_least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= at_least);
    step.filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0)
}

fn tick_text(tick: f64, decimals: usize) -> String {
    if decimals == 0 && (1e3..1e12).contains(&tick) {
        grouped(tick.round() as usize)
    } else {
        format!("{:.decimals$}", tick + 0.0)
    }
}

fn opening(title: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    )
}

/// A line with a word at its upper end, on the side with more room.
fn marker(x: f64, word: &str) -> String {
    if !(LEFT..=WIDTH).contains(&x) {
        return String::new();
    }
    let (class, shift) = if x > WIDTH * 0.8 { ("end", -5.0) } else { ("", 5.0) };
    format!(
        "<line class=\"marker\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>\
         <text class=\"{class} strong\" x=\"{:.1}\" y=\"{}\">{}</text>",
        TOP - 6.0,
        HEIGHT - BOTTOM,
        x + shift,
        TOP + 4.0,
        escaped(word)
    )
}

fn column(low: f64, high: f64, count: f64, x: &Axis, y: &Axis) -> String {
    let (left, right, top) = (x.place(low), x.place(high), y.place(count));
    format!(
        "<rect class=\"bar\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        left + 0.5,
        (right - left - 1.0).max(0.5),
        y.place(0.0) - top
    )
}

/// A line with a gap where a value is not finite.
fn line(at: usize, values: &[f64], x: &Axis, y: &Axis) -> String {
    let block = values.len().div_ceil(MOST_POINTS).max(1);
    let mut path = String::new();
    let mut pen = 'M';
    for (index, values) in values.chunks(block).enumerate() {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        if !mean.is_finite() {
            pen = 'M';
            continue;
        }
        let step = (index * block) as f64 + (values.len() as f64 + 1.0) / 2.0;
        let _ = write!(path, "{pen}{:.1} {:.1}", x.place(step), y.place(mean));
        pen = 'L';
    }
    format!("<path class=\"series series{at}\" d=\"{path}\"/>")
}

/// Names with a sample of their line, above the plot; a single line needs none.
fn legend(series: &[&LossSeries]) -> String {
    const LETTER: f64 = 7.0;
    let mut svg = String::new();
    let mut x = LEFT;
    for (at, series) in series.iter().enumerate().filter(|_| series.len() > 1) {
        let _ = write!(
            svg,
            "<line class=\"series series{at}\" x1=\"{x}\" x2=\"{}\" y1=\"12\" y2=\"12\"/>\
             <text x=\"{}\" y=\"16\">{}</text>",
            x + 22.0,
            x + 28.0,
            escaped(&series.name)
        );
        x += 46.0 + LETTER * series.name.chars().count() as f64;
    }
    svg
}

/// Text that cannot end an element or an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: Vec<f64>) -> LossCurve {
        let series = vec![
            LossSeries { name: "<sum>".into(), values: values.clone() },
            LossSeries { name: "part".into(), values },
        ];
        LossCurve { step_name: "step & more".into(), series, chosen_step: Some(2) }
    }

    #[test]
    fn steps_are_round() {
        let steps = [0.013, 1.0, 1.1, 4.9, 50.1, 0.0, f64::NAN, f64::INFINITY].map(round_step);
        assert_eq!(steps, [0.02, 1.0, 2.0, 5.0, 100.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn strange_losses_make_no_strange_numbers() {
        let strange = [vec![1.0], vec![0.0; 3], vec![1.0, f64::NAN, 3.0, f64::INFINITY], vec![-1e300, 1e300]];
        for values in strange {
            let svg = loss_plot(&curve(values)).unwrap().svg;
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(!svg.contains("<sum>") && svg.contains("&lt;sum&gt;") && svg.contains("step &amp; more"));
        }
        assert!(loss_plot(&curve(vec![])).is_none());
        assert!(loss_plot(&curve(vec![f64::NAN])).is_none());
    }

    #[test]
    fn long_lines_are_averaged() {
        let svg = loss_plot(&curve((0..100_000).map(f64::from).collect())).unwrap().svg;
        assert_eq!(svg.matches('L').count(), 2 * (MOST_POINTS - 1));
    }

    #[test]
    fn every_nucleus_is_in_a_bar() {
        let mut areas: Vec<f64> = (1..1000).map(|area| f64::from(area % 90)).collect();
        areas.push(1e6);
        let plot = area_histogram(&areas, "px²").unwrap();
        assert!(plot.caption.starts_with("1,000 nuclei in bars of 5.00 px²."), "{}", plot.caption);
        assert!(plot.caption.contains("the 1 nuclei above 90.0 px²"), "{}", plot.caption);
        assert!(area_histogram(&[], "px²").is_none());
        for areas in [vec![1.0], vec![0.0, 0.0], vec![7.0; 9]] {
            assert!(!area_histogram(&areas, "px²").unwrap().svg.contains("NaN"));
        }
    }
}
