//! The figure: a score over length, an arm a line.
use crate::verdict::SummaryRow;
use plotters::prelude::*;

/// Okabe and Ito's colours, which colour-blind readers can tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(150, 150, 150),
];

/// Pixels of the chart with its axes; the legend stands to its right.
const PLOT_WIDTH: u32 = 610;
/// Pixels from the top to the legend's first row, and from row to row.
const LEGEND_TOP: i32 = 60;
const LEGEND_ROW: i32 = 26;

/// A point of a line: length, mean and interval.
type Point = (f64, f64, Option<(f64, f64)>);

/// The passkey score over length as SVG, with 95 % intervals; nothing where no passkey was
/// scored.
pub(super) fn draw(title: &str, summary: &[SummaryRow]) -> Option<Result<String, String>> {
    let task = summary
        .iter()
        .find(|r| r.protocol == "passkey")?
        .task
        .clone();
    let rows: Vec<&SummaryRow> = summary
        .iter()
        .filter(|r| r.task == task && r.position.is_empty() && r.length.is_some())
        .collect();
    let mut arms: Vec<&str> = rows.iter().map(|r| r.arm.as_str()).collect();
    arms.dedup();
    let lines: Vec<(&str, Vec<Point>)> = arms
        .into_iter()
        .map(|arm| {
            let of_arm = rows.iter().filter(|r| r.arm == arm);
            let point = |r: &&SummaryRow| {
                let interval = r.low.zip(r.high);
                r.length.map(|l| (l as f64, r.mean, interval))
            };
            (arm, of_arm.filter_map(point).collect())
        })
        .collect();
    Some(render(title, &task, &lines).map_err(|e| e.to_string()))
}

/// Width and height in pixels with which every arm's name fits the legend.
fn size(lines: &[(&str, Vec<Point>)]) -> (u32, u32) {
    let longest = lines.iter().map(|(arm, _)| arm.chars().count()).max();
    // A letter of the legend is 8 pixels wide at most on average; a name begins at 46.
    let legend = 56 + 8 * longest.unwrap_or(0) as u32;
    let rows = LEGEND_TOP as u32 + LEGEND_ROW as u32 * lines.len() as u32;
    (PLOT_WIDTH + legend.max(210), rows.max(480))
}

fn render(
    title: &str,
    task: &str,
    lines: &[(&str, Vec<Point>)],
) -> Result<String, Box<dyn std::error::Error>> {
    let mut lengths: Vec<f64> = lines
        .iter()
        .flat_map(|(_, l)| l.iter().map(|p| p.0))
        .collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    let (Some(least), Some(most)) = (lengths.first(), lengths.last()) else {
        return Err("no score has a length".into());
    };
    let range = least * 0.85..most * 1.18;
    // Lines on one spot stand beside each other, up to six pixels apart at any range of lengths.
    let pixels = (48.0 / lines.len() as f64).min(6.0);
    let apart = (range.end / range.start).powf(pixels / f64::from(PLOT_WIDTH));
    let (width, height) = size(lines);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (plot, legend) = root.split_horizontally(PLOT_WIDTH);
        let ticks = lengths.len();
        let mut chart = ChartBuilder::on(&plot)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d(range.log_scale().with_key_points(lengths), -0.03f64..1.03)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(ticks)
            .x_desc("prompt length (tokens)")
            .y_desc(format!("{task}: share found, 95 % interval"))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (i, (arm, points)) in lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let shift = apart.powf(i as f64 - (lines.len() - 1) as f64 / 2.0);
            let at = |p: &Point| (p.0 * shift, p.1);
            chart.draw_series(LineSeries::new(
                points.iter().map(at),
                colour.stroke_width(2),
            ))?;
            for point in points {
                if let Some((low, high)) = point.2 {
                    let ends = [
                        (point.0 * shift, low.max(0.0)),
                        (point.0 * shift, high.min(1.0)),
                    ];
                    chart.draw_series(LineSeries::new(ends, colour.mix(0.6).stroke_width(1)))?;
                }
            }
            let (x, y) = (8, LEGEND_TOP + LEGEND_ROW * i as i32);
            legend.draw(&PathElement::new(
                vec![(x, y), (x + 30, y)],
                colour.stroke_width(2),
            ))?;
            let style = ("sans-serif", 14).into_font().color(&BLACK);
            legend.draw(&Text::new((*arm).to_string(), (x + 38, y - 7), style))?;
            match i % 3 {
                0 => {
                    chart.draw_series(
                        points
                            .iter()
                            .map(|p| Circle::new(at(p), 4, colour.filled())),
                    )?;
                    legend.draw(&Circle::new((x + 15, y), 4, colour.filled()))?;
                }
                1 => {
                    chart.draw_series(
                        points
                            .iter()
                            .map(|p| TriangleMarker::new(at(p), 5, colour.filled())),
                    )?;
                    legend.draw(&TriangleMarker::new((x + 15, y), 5, colour.filled()))?;
                }
                _ => {
                    chart.draw_series(
                        points
                            .iter()
                            .map(|p| Cross::new(at(p), 4, colour.stroke_width(2))),
                    )?;
                    legend.draw(&Cross::new((x + 15, y), 4, colour.stroke_width(2)))?;
                }
            }
        }
        root.present()?;
    }
    Ok(svg)
}
