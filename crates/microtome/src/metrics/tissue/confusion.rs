//! How many pixels of each true class were given each class, and the scores that follow.

use crate::truth::class_mask::IGNORED;

/// Pixels by true class and by predicted class; a pixel without a prediction has a column of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[classes][classes + 1]`.
    counts: Vec<u64>,
}

impl Confusion {
    /// No pixels yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * (classes + 1)] }
    }

    /// With the pixels of a picture; what the truth ignores is not looked at.
    pub fn add(&mut self, predicted: &[u8], truth: &[u8]) {
        for (predicted, truth) in predicted.iter().zip(truth).filter(|(_, truth)| **truth != IGNORED) {
            let column = usize::from(*predicted).min(self.classes);
            self.counts[usize::from(*truth) * (self.classes + 1) + column] += 1;
        }
    }

    /// With the pixels of another.
    pub fn add_all(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    /// Pixels of a true class that were given a class, or with the number of classes that were given none.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * (self.classes + 1) + predicted]
    }

    fn truth_px(&self, class: usize) -> u64 {
        (0..=self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    fn predicted_px(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    /// The scores.
    pub fn scores(&self) -> ClassScores {
        let all: u64 = self.counts.iter().sum();
        let share = |part: f64, whole: u64| if whole == 0 { f64::NAN } else { part / whole as f64 };
        let classes: Vec<OneClass> = (0..self.classes)
            .map(|class| {
                let (hit, truth, predicted) =
                    (self.count(class, class), self.truth_px(class), self.predicted_px(class));
                OneClass {
                    truth_px: truth,
                    predicted_px: predicted,
                    accuracy: share(hit as f64, truth),
                    dice: share(2.0 * hit as f64, truth + predicted),
                    iou: share(hit as f64, truth + predicted - hit),
                }
            })
            .collect();
        let hits: u64 = (0..self.classes).map(|class| self.count(class, class)).sum();
        // A class that is neither there nor predicted says nothing.
        let mean = |of: fn(&OneClass) -> f64| {
            let values: Vec<f64> = classes.iter().map(of).filter(|value| value.is_finite()).collect();
            values.iter().sum::<f64>() / values.len().max(1) as f64
        };
        let weighted =
            |class: &OneClass| if class.truth_px == 0 { 0.0 } else { class.iou * class.truth_px as f64 };
        ClassScores {
            pixel_accuracy: hits as f64 / all.max(1) as f64,
            mean_accuracy: mean(|class| class.accuracy),
            mean_dice: mean(|class| class.dice),
            mean_iou: mean(|class| class.iou),
            frequency_weighted_iou: classes.iter().map(weighted).sum::<f64>() / all.max(1) as f64,
            classes,
        }
    }
}

/// Scores of one class; not a number where it is neither there nor predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneClass {
    /// Pixels of it in truth.
    pub truth_px: u64,
    /// Pixels that were given it.
    pub predicted_px: u64,
    /// Share of its pixels that were given it.
    pub accuracy: f64,
    /// 2·hits / (true + predicted).
    pub dice: f64,
    /// hits / (true or predicted).
    pub iou: f64,
}

/// Scores of all classes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScores {
    /// Share of the pixels that were given their class.
    pub pixel_accuracy: f64,
    /// Mean over classes.
    pub mean_accuracy: f64,
    /// Mean over classes.
    pub mean_dice: f64,
    /// Mean over classes.
    pub mean_iou: f64,
    /// Mean over pixels of the IoU of their class.
    pub frequency_weighted_iou: f64,
    /// One by one.
    pub classes: Vec<OneClass>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_matrix_by_hand() {
        let mut confusion = Confusion::new(3);
        // Truth 0: 3 right, 1 as class 1. Truth 1: 2 right, 1 without a class. 255 is not looked at.
        confusion.add(&[0, 0, 0, 1, 1, 1, 255, 2], &[0, 0, 0, 0, 1, 1, 1, 255]);
        let scores = confusion.scores();
        assert_eq!(scores.pixel_accuracy, 5.0 / 7.0);
        assert_eq!((scores.classes[0].dice, scores.classes[0].iou), (6.0 / 7.0, 3.0 / 4.0));
        assert_eq!((scores.classes[1].dice, scores.classes[1].iou), (4.0 / 6.0, 2.0 / 4.0));
        assert_eq!(scores.classes[1].accuracy, 2.0 / 3.0);
        assert!(scores.classes[2].dice.is_nan());
        assert_eq!(scores.mean_iou, (0.75 + 0.5) / 2.0);
        assert_eq!(scores.frequency_weighted_iou, (0.75 * 4.0 + 0.5 * 3.0) / 7.0);
    }

    #[test]
    fn nothing_at_all_scores_zero_and_not_nothing() {
        let scores = Confusion::new(2).scores();
        assert_eq!((scores.mean_dice, scores.pixel_accuracy), (0.0, 0.0));
    }
}
