import { render } from "preact";
import { App } from "./app";
import "./style.css";
import { startTheme } from "./theme";

startTheme();
const root = document.getElementById("app");
if (root) render(<App />, root);
