// Package top is what `gateway top` shows of a running gateway: a picture that is drawn from overviews of the admin API,
// and the program that keeps it fresh.
//
// What is drawn is a pure function of a picture, a state of the view, and a size. It must not depend on HTTP: where
// overviews come from is a Source.
package top

import (
	"strings"
	"unicode"
)

// style is how a cell looks: at most one colour, and any of the rest.
type style uint8

const (
	plain style = iota
	good
	warn
	bad
	accent

	colors style = 1<<4 - 1
	bold   style = 1 << 4
	dim    style = 1 << 5
	invert style = 1 << 6
)

// cell is one character of the screen.
type cell struct {
	rune  rune
	style style
}

// grid is a screen. What is written beyond its edges is not there.
type grid struct {
	width, height int
	cells         []cell
}

func newGrid(width, height int) *grid {
	width, height = max(width, 0), max(height, 0)
	g := &grid{width, height, make([]cell, width*height)}
	for i := range g.cells {
		g.cells[i].rune = ' '
	}
	return g
}

// put writes a text and returns the column after it.
func (g *grid) put(x, y int, of style, text string) int {
	for _, r := range clean(text) {
		if y >= 0 && y < g.height && x >= 0 && x < g.width {
			g.cells[y*g.width+x] = cell{r, of}
		}
		x++
	}
	return x
}

// putRight writes a text that ends before a column.
func (g *grid) putRight(x, y int, of style, text string) { g.put(x-columns(text), y, of, text) }

// add adds to the style of a row from one column to before another.
func (g *grid) add(from, to, y int, more style) {
	for x := max(from, 0); x < min(to, g.width) && y >= 0 && y < g.height; x++ {
		g.cells[y*g.width+x].style |= more
	}
}

// row is one line of the screen.
func (g *grid) row(y int) []cell { return g.cells[y*g.width : (y+1)*g.width] }

// text is the screen without styles, and without the blanks at the ends of lines.
func (g *grid) text() string {
	var out strings.Builder
	for y := range g.height {
		var line strings.Builder
		for _, c := range g.row(y) {
			line.WriteRune(c.rune)
		}
		out.WriteString(strings.TrimRight(line.String(), " "))
		out.WriteByte('\n')
	}
	return out.String()
}

// colorCodes are of the terminal's own palette, so that they suit its background.
var colorCodes = map[style]string{good: ";32", warn: ";33", bad: ";31", accent: ";36"}

// terminal is the screen in the escape sequences of terminals, line by line.
func (g *grid) terminal(colored bool) string {
	var out strings.Builder
	for y := range g.height {
		if y > 0 {
			out.WriteByte('\n')
		}
		current := plain
		for _, c := range g.row(y) {
			if !colored {
				c.style &^= colors
			}
			if c.style != current {
				out.WriteString(escape(c.style))
				current = c.style
			}
			out.WriteRune(c.rune)
		}
		if current != plain {
			out.WriteString(escape(plain))
		}
	}
	return out.String()
}

func escape(of style) string {
	codes := "\x1b[0"
	for i, flag := range []style{bold, dim, invert} {
		if of&flag != 0 {
			codes += []string{";1", ";2", ";7"}[i]
		}
	}
	return codes + colorCodes[of&colors] + "m"
}

// unknownRune stands for what is not shown.
const unknownRune = '·'

// clean makes a text one that takes one column a character, whatever it comes from: without control characters, which a
// terminal would obey, without what turns the direction of writing, and without what is wide or combines.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return unknownRune
		case r < 0x300: // Latin
			return r
		case r >= 0x2010 && r <= 0x2027, // dashes and quotes
			r >= 0x2190 && r <= 0x2193, // arrows
			r >= 0x2500 && r <= 0x259F, // lines and blocks
			r == '▲', r == '▼', r == '●', r == '○', r == '◀', r == '›':
			return r
		default:
			return unknownRune
		}
	}, text)
}

// columns is how wide a text is.
func columns(text string) int { return len([]rune(text)) }

// clip cuts a text to a width, and shows that it did.
func clip(text string, width int) string {
	runes := []rune(text)
	switch {
	case len(runes) <= width:
		return text
	case width <= 0:
		return ""
	default:
		return string(runes[:width-1]) + "…"
	}
}

// maxLines is how many lines a text may take.
const maxLines = 2

// wrap breaks a text between words, into few lines.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch longer := line + " " + word; {
		case line == "":
			line = word
		case columns(longer) <= width || len(lines) == maxLines-1:
			line = longer
		default:
			lines, line = append(lines, clip(line, width)), word
		}
	}
	return append(lines, clip(line, width))
}
