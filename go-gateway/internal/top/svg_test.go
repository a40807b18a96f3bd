package top

import (
	"fmt"
	"html"
	"strings"
	"testing"
)

const (
	cellWidth, cellHeight = 8.4, 19 // of 14 pixels' monospace letters
	margin                = 14
)

// svg draws a screen as a picture that suits light pages and dark ones. Blocks are rectangles, so that they join; what is
// written stands where it stands on the screen, whichever font there is.
func svg(g *grid, label string) string {
	var out strings.Builder
	width, height := float64(g.width)*cellWidth+2*margin, float64(g.height)*cellHeight+2*margin
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.1f %.1f" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" role="img" aria-label="%s">
<style>.bg{fill:#fbfaf7;stroke:#ddd3b8}.p{fill:#22252b}.d{fill:#8a8f99}.g{fill:#2f7d4f}.w{fill:#a86a00}.r{fill:#c0362c}.a{fill:#1f6f8b}.i{fill:#e9e2cf}.b{font-weight:700}.f{opacity:.3}text{white-space:pre}@media (prefers-color-scheme:dark){.bg{fill:#16181d;stroke:#4b4636}.p{fill:#eceae4}.d{fill:#7f8692}.g{fill:#6cc48a}.w{fill:#e0a84a}.r{fill:#f07a6d}.a{fill:#74c3e0}.i{fill:#33363f}}</style>
<rect class="bg" x="0.5" y="0.5" width="%.1f" height="%.1f" rx="10"/>
`, width, height, html.EscapeString(label), width-1, height-1)
	for y := range g.height {
		row := g.row(y)
		for x := 0; x < len(row); {
			from := x
			for x < len(row) && row[x].style&invert == row[from].style&invert {
				x++
			}
			if row[from].style&invert != 0 {
				rectangle(&out, "i", float64(from), float64(y), float64(x-from), 1)
			}
		}
		for x := 0; x < len(row); {
			from, c := x, row[x]
			if blockHeight(c.rune) > 0 {
				for x < len(row) && row[x] == c {
					x++
				}
				class, tall := class(c.style), blockHeight(c.rune)
				if c.rune == '░' {
					class += " f"
				}
				rectangle(&out, class, float64(from), float64(y)+0.12+0.76*(1-tall), float64(x-from), 0.76*tall)
				continue
			}
			var text strings.Builder
			for x < len(row) && row[x].style == c.style && blockHeight(row[x].rune) == 0 && !strings.HasSuffix(text.String(), "  ") {
				text.WriteRune(row[x].rune)
				x++
			}
			if words := strings.TrimRight(text.String(), " "); words != "" {
				indent := len(words) - len(strings.TrimLeft(words, " "))
				fmt.Fprintf(&out, `<text class="%s" x="%.1f" y="%.1f" textLength="%.1f">%s</text>`+"\n", class(c.style),
					margin+float64(from+indent)*cellWidth, margin+(float64(y)+0.74)*cellHeight, float64(columns(words)-indent)*cellWidth,
					html.EscapeString(words[indent:]))
			}
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func rectangle(out *strings.Builder, class string, x, y, width, height float64) {
	fmt.Fprintf(out, `<rect class="%s" x="%.1f" y="%.2f" width="%.1f" height="%.2f"/>`+"\n",
		class, margin+x*cellWidth, margin+y*cellHeight, width*cellWidth, height*cellHeight)
}

// blockHeight is how much of its cell a block fills from below; 0 is no block.
func blockHeight(r rune) float64 {
	for i, step := range steps {
		if r == step {
			return float64(i+1) / float64(len(steps))
		}
	}
	if r == '░' {
		return 1
	}
	return 0
}

func class(of style) string {
	name := map[style]string{plain: "p", good: "g", warn: "w", bad: "r", accent: "a"}[of&colors]
	if of&dim != 0 && of&colors == plain {
		name = "d"
	}
	if of&bold != 0 {
		name += " b"
	}
	return name
}

func TestThePictureInTheDocumentsIsWhatIsDrawn(t *testing.T) {
	g := draw(evening(), &State{Selected: "globex"}, 100, 30)
	isAsBefore(t, "../../../docs/top.svg", svg(g, "gateway top: rates, what there is room for, hot paths, and the busiest tenants with the limits nearest to refusing"))
}
