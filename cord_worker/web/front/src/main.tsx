import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/charts.css";
import "./style/problem.css";
import { App } from "./App";
import { siteOfPage, sourceOf } from "./data/source";

const place = document.getElementById("app");
if (place !== null) {
  const site = siteOfPage();
  render(<App site={site} source={sourceOf(site)} />, place);
}
