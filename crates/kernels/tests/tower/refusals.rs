//! Wrong lengths are refused with a message, before anything is computed.

use super::cases::{Case, random};
use microtome_kernels::Size;
use microtome_kernels::network::tower::{FoldedTower, Tower};

fn case() -> Case {
    let tower = Tower { inputs: 2, outputs: 3, dilations: vec![1, 2], sigmoid: true };
    Case::new(&mut random(1), tower, 2, Size::new(5, 4))
}

fn forward(case: &Case) {
    case.tower.forward(&case.picture, case.shape, &case.parameters());
}

/// The backward pass after a proper forward pass; `spoil` changes picture, output and gradient in between.
fn backward(spoil: impl FnOnce([&mut Vec<f32>; 3])) {
    let case = case();
    let (mut picture, mut gradient) = (case.picture.clone(), case.gradient.clone());
    let parameters = case.parameters();
    let (mut output, trace) = case.tower.forward(&case.picture, case.shape, &parameters);
    spoil([&mut picture, &mut output, &mut gradient]);
    case.tower.backward(&picture, &trace, &parameters, &output, &gradient);
}

fn fold(case: &Case) -> FoldedTower {
    case.folded()
}

fn apply(case: &Case, length: usize) {
    fold(case).apply(&case.picture[..length], case.shape);
}

/// `name: message, what is done to a good case;`
macro_rules! refused {
    ($($name:ident: $message:literal, |$case:ident| $body:expr;)*) => {$(
        #[test]
        #[should_panic(expected = $message)]
        #[allow(unused_mut)] // Not every body changes its case.
        fn $name() {
            let mut $case = case();
            $body;
        }
    )*};
}

refused! {
    forward_of_a_short_picture: "picture has its shape's length", |case| {
        case.picture.pop();
        forward(&case)
    };
    forward_of_a_long_picture: "picture has its shape's length", |case| {
        case.picture.push(0.0);
        forward(&case)
    };
    forward_with_other_channels: "the tower's inputs", |case| {
        case.shape.channels = 3;
        forward(&case)
    };
    forward_without_blocks: "a tower has a block", |case| {
        case.tower.dilations.clear();
        forward(&case)
    };
    forward_with_dilation_zero: "dilations are at least 1", |case| {
        case.tower.dilations[1] = 0;
        forward(&case)
    };
    forward_without_a_layer: "parameters for each layer", |case| {
        case.numbers.layers.pop();
        forward(&case)
    };
    forward_with_a_short_stem: "parameters of layer 0", |case| {
        case.numbers.layers[0][0].pop();
        forward(&case)
    };
    forward_with_a_long_weight: "parameters of layer 3", |case| {
        case.numbers.layers[3][0].push(0.0);
        forward(&case)
    };
    forward_with_a_short_gamma: "parameters of layer 2", |case| {
        case.numbers.layers[2][1].pop();
        forward(&case)
    };
    forward_with_a_long_beta: "parameters of layer 4", |case| {
        case.numbers.layers[4][2].push(0.0);
        forward(&case)
    };
    forward_with_a_short_head: "the head has its shape", |case| {
        case.numbers.head[0].pop();
        forward(&case)
    };
    forward_with_a_long_bias: "a bias an output", |case| {
        case.numbers.head[1].push(0.0);
        forward(&case)
    };
    folding_without_blocks: "a tower has a block", |case| {
        case.tower.dilations.clear();
        fold(&case)
    };
    folding_without_a_layer: "parameters for each layer", |case| {
        case.numbers.layers.pop();
        fold(&case)
    };
    folding_a_short_weight: "weight of layer 1", |case| {
        case.numbers.layers[1][0].pop();
        fold(&case)
    };
    folding_a_long_head: "the head has its shape", |case| {
        case.numbers.head[0].push(0.0);
        fold(&case)
    };
    folding_a_short_bias: "a bias an output", |case| {
        case.numbers.head[1].pop();
        fold(&case)
    };
    inference_of_a_short_picture: "picture has its shape's length", |case| apply(&case, case.picture.len() - 1);
    inference_with_other_channels: "the tower's inputs", |case| {
        case.shape.channels = 1;
        apply(&case, case.shape.len())
    };
}

#[test]
#[should_panic(expected = "picture has its shape's length")]
fn backward_of_a_short_picture() {
    backward(|[picture, _, _]| picture.truncate(10));
}

#[test]
#[should_panic(expected = "output has its shape's length")]
fn backward_of_a_short_output() {
    backward(|[_, output, _]| output.truncate(10));
}

#[test]
#[should_panic(expected = "gradient has its shape's length")]
fn backward_of_a_long_gradient() {
    backward(|[_, _, gradient]| gradient.push(0.0));
}
